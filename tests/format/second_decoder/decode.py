"""Decodes blobs and compressed files: the format's second implementation.

This file and its neighbors follow docs/format.md alone, not the Rust code, to reveal mistakes and gaps of the
document: a decoder that follows it must agree with the Rust decoder. They use the document's order and names and
check everything that a reader must check. They are written to be read, not to be fast.

    decode.py [--numbers] FILE OUT [FILE OUT ...]

For a blob, writes the weights to OUT, row-major; with --numbers the dequantized weights in F32. For a compressed
file, writes the original. For an invalid file, prints a line to stderr and writes no OUT; the exit status is then 1.
"""

import json
import math
import operator
import struct
import sys
from collections import namedtuple
from itertools import accumulate

sys.dont_write_bytecode = True
from blob import Blob, bfloat16  # noqa: E402
from checks import FormatError, check, crc32c  # noqa: E402

MARK = b'{"__metadata__":{"fused_rans":"'
KEYS = ["fused_rans", "fused_rans.crc32c", "fused_rans.header"]
WIDTHS = {4: "F4", 6: "F6_E2M3 F6_E3M2", 8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
          16: "U16 I16 F16 BF16", 32: "U32 I32 F32", 64: "U64 I64 F64 C64"}
BITS = {dtype: bits for bits, dtypes in WIDTHS.items() for dtype in dtypes.split()}
Tensor = namedtuple("Tensor", "name dtype shape start end")


def restore(data):
    """Returns the original of a compressed file."""
    check(len(data) >= 8, "the file is shorter than 8 bytes")
    n, = struct.unpack_from("<Q", data)
    check(n <= 100_000_000 and 8 + n <= len(data), "length of the file's header")
    check_start(data[:8], data[8:8 + n])
    section = data[8 + n:]
    tensors, metadata = read_header(data[8:8 + n])
    check(check_places(tensors) == len(section), "end of the last tensor")
    check([key for key, _ in metadata] == KEYS and (8 + n) % 128 == 0, "metadata, or start of the data section")
    (_, _), (_, checksums), (_, original_header) = metadata
    checksums = checksums.split(" ") if checksums else []
    check(len(checksums) == len(tensors), "number of checksum texts")
    original_header = original_header.encode()
    originals, _ = read_header(original_header)
    check_places(originals)
    restored = {}
    for (tensor, original), checksum in zip(pair(tensors, originals), checksums):
        stored = section[tensor.start:tensor.end]
        read = read_blob if is_blob(tensor, original) else read_raw
        restored[tensor.name] = read(tensor, original, stored, checksum)
    parts = [restored[original.name] for original in originals]
    return b"".join([struct.pack("<Q", len(original_header)), original_header, *parts])


def check_start(length, header):
    check(header.startswith(MARK), "neither a blob nor a compressed file")
    version = header[len(MARK):].split(b" ")[0]
    check(version == b"1", f"the file's version is {version[:20]}, not 1")
    checksum = crc32c(length + header[:33] + b"00000000" + header[41:])
    check(header[33:43] == b'%08x",' % checksum, "checksum of the file's header")


class Pairs(list):
    """A JSON object: names and values, any number of them with one name."""


def read_header(header):
    """Returns the tensors in the order of their data, and the metadata."""
    try:
        entries = json.loads(header.decode(), object_pairs_hook=Pairs, parse_int=integer, parse_constant=no_json)
        json.dumps(entries, ensure_ascii=False).encode()  # not of half a surrogate pair
    except (ValueError, RecursionError):
        raise FormatError("the header is not JSON") from None
    check(isinstance(entries, Pairs), "the header is not an object")
    names = [name for name, _ in entries]
    check(len(set(names)) == len(names), "a name occurs twice")
    metadata = dict(entries).get("__metadata__")
    metadata = Pairs() if metadata is None else metadata
    check(isinstance(metadata, Pairs) and all(isinstance(text, str) for _, text in metadata), "metadata")
    tensors = [read_entry(name, entry) for name, entry in entries if name != "__metadata__"]
    return sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)), metadata


def integer(digits):
    return int(digits) if digits.isdigit() else float(digits)


def no_json(constant):
    raise ValueError(constant)


def read_entry(name, entry):
    check(isinstance(entry, Pairs), "entry of a tensor")
    fields = [pair for pair in entry if pair[0] in ("dtype", "shape", "data_offsets")]
    check(len(fields) == len(dict(fields)) == 3, "fields of a tensor")
    dtype, shape, offsets = (dict(fields)[field] for field in ("dtype", "shape", "data_offsets"))
    check(isinstance(dtype, str) and dtype in BITS, "dtype of a tensor")
    check(type(shape) is list and type(offsets) is list and len(offsets) == 2, "shape or offsets of a tensor")
    check(all(type(number) is int and number < 1 << 64 for number in shape + offsets), "a number of a tensor")
    return Tensor(name, dtype, shape, *offsets)


def check_places(tensors):
    """Checks that each tensor starts where the previous one ends; returns the end of the last one."""
    end = 0
    for tensor in tensors:
        *_, bits = products = list(accumulate([1, *tensor.shape, BITS[tensor.dtype]], operator.mul))
        check(max(products) < 1 << 64, "size of a tensor")
        check(tensor.start == end and 8 * (tensor.end - tensor.start) == bits, "place of a tensor")
        end = tensor.end
    return end


def pair(tensors, originals):
    """Pairs tensors with originals. Checks that blobs come first, each kind in the original order."""
    places = {original.name: place for place, original in enumerate(originals)}
    check(places.keys() == {tensor.name for tensor in tensors}, "names of the two headers")
    pairs = [(tensor, originals[places[tensor.name]]) for tensor in tensors]
    order = [(not is_blob(tensor, original), places[tensor.name]) for tensor, original in pairs]
    check(order == sorted(order), "order of the tensors")
    return pairs


def is_blob(tensor, original):
    may_be = original.dtype in ("BF16", "F16", "F32", "F8_E4M3", "I8") and len(original.shape) == 2
    return may_be and min(original.shape) > 0 and tensor.dtype == "U8"


def read_raw(tensor, original, stored, checksum):
    check((tensor.dtype, tensor.shape) == (original.dtype, original.shape), "dtype or shape of a raw tensor")
    check(checksum == f"{crc32c(stored):08x}", "checksum of a raw tensor")
    return stored


def read_blob(tensor, original, stored, checksum):
    check(len(tensor.shape) == 1 and tensor.start % 128 == 0 and tensor.end % 128 == 0, "place of a blob")
    blob = Blob(stored)
    check([blob.rows, blob.cols] == original.shape, "rows or columns of a blob")
    check(checksum == f"{blob.header_checksum:08x}", "checksum of a blob")
    quantized = blob.groups or blob.row_scales
    check(original.dtype in (("BF16", "F16", "F32") if quantized else (blob.dtype.name,)), "dtype of a blob")
    blob.decode()
    return b"".join(rounded(number, original.dtype) for number in blob.numbers()) if quantized else blob.weights


def rounded(number, dtype):
    """Rounds a binary32 number to the dtype, ties to even; finite numbers to at most the largest finite one."""
    if dtype == "F32":
        return struct.pack("<f", number)
    if math.isfinite(number):
        largest = 65504.0 if dtype == "F16" else bfloat16(0x7F7F)
        number = min(max(number, -largest), largest)
    if dtype == "F16":
        return struct.pack("<e", number)
    bits, = struct.unpack("<I", struct.pack("<f", number))
    rest = 0 if math.isnan(number) else 0x7FFF + (bits >> 16 & 1)
    return struct.pack("<H", bits + rest >> 16)


def decode(data, as_numbers):
    """Returns the content of the file, or the dequantized weights of the blob."""
    if data[:4] != b"fRNS":
        return restore(data)
    blob = Blob(data)
    blob.decode()
    return b"".join(rounded(number, "F32") for number in blob.numbers()) if as_numbers else blob.weights


def main(arguments):
    as_numbers = arguments[:1] == ["--numbers"]
    names = arguments[as_numbers:]
    if not names or len(names) % 2:
        sys.exit("usage: decode.py [--numbers] FILE OUT [FILE OUT ...]")
    status = 0
    for name, out in zip(names[::2], names[1::2]):
        try:
            with open(name, "rb") as file:
                decoded = decode(file.read(), as_numbers)
            with open(out, "wb") as file:
                file.write(decoded)
        except (FormatError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
