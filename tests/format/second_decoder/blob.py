"""Decodes a blob, following the section "The blob" of docs/format.md; see decode.py."""

import math
import struct
from collections import namedtuple

from checks import ceil_div, check, crc32c
from tile import Tile, signed

Dtype = namedtuple("Dtype", "name format raw_bits highest_base")  # raw_bits: those allowed, by weights per symbol
DTYPES = {
    0: Dtype("BF16", "H", {2: [8]}, 240),
    1: Dtype("F16", "H", {2: [11]}, 16),
    2: Dtype("F8_E4M3", "B", {2: [4]}, 0),
    3: Dtype("I8", "B", {2: [0, 1, 2, 3, 4], 4: [2, 3, 4, 5]}, 0),
}


class Blob:
    """A blob whose header, table, index and row scales are valid."""

    def __init__(self, data):
        self.data = data
        check(data[:4] == b"fRNS", "neither a blob nor a compressed file")
        check(len(data) >= 128, "the blob's header is cut off")
        version, = struct.unpack_from("<H", data, 4)
        check(version == 1, f"the blob's version is {version}, not 1")
        self.read_header()
        self.slots = decode_table(struct.unpack_from("<256H", data, 128), self.s)
        self.read_index()

    def read_header(self):
        (dtype, self.r, base, flags, self.s, log2_size, self.checksum, self.rows, self.cols, length, self.exceptions,
         entropy, zeros, self.header_checksum) = struct.unpack_from("<6BI4Qd68sI", self.data, 6)
        check(dtype in DTYPES, "dtype")
        self.dtype, self.width = DTYPES[dtype], struct.calcsize(DTYPES[dtype].format)
        check(self.r in self.dtype.raw_bits.get(self.s, []), "raw bits or weights a symbol")
        check(base <= self.dtype.highest_base, "base")
        self.c = 8 // self.s
        zero, self.groups, self.zero_points, self.row_scales, self.has_large_integers = (
            flags >> bit & 1 for bit in range(5))
        self.i8 = self.dtype.name == "I8"
        check(flags < 32 and (self.width == 2 or not zero), "flags, or zero")
        check(not self.groups or self.i8 and self.c + self.r == 4 and self.exceptions == 0, "groups")
        check(self.groups or not self.zero_points, "zero points")
        check(self.width == 1 or not self.row_scales, "row scales")
        check(not self.has_large_integers or self.i8 and self.row_scales and not self.groups, "large integers")
        self.exponents = [base + n if n or not zero else 0 for n in range(16)]
        check(log2_size == 12, "size of the table")
        check(self.rows and self.cols and self.rows * self.cols * self.width < 1 << 63, "rows or columns")
        check(0 <= entropy <= 16, "entropy")
        check(zeros == bytes(68), "zeros of the header")
        self.scales_start = 640 + 64 * ceil_div(self.rows, 256) * ceil_div(self.cols, 256)
        self.first_line = ceil_div(self.scales_start + 2 * self.rows * self.row_scales, 128)
        check(128 * self.first_line <= len(self.data), "the blob's index is cut off")
        covered = self.data[:124] + self.data[128:128 * self.first_line]
        check(crc32c(covered) == self.header_checksum, "checksum of the blob's header")
        check(len(self.data) == length, "length of the blob")

    def read_index(self):
        self.tiles = []
        line, exceptions = self.first_line, 0
        for row in range(0, self.rows, 256):
            for col in range(0, self.cols, 256):
                tile = Tile(self, 640 + 64 * len(self.tiles), row, col)
                check(tile.offset == line, "offset of a payload")
                line, exceptions = line + tile.lines, exceptions + tile.exceptions
                self.tiles.append(tile)
        check(128 * line == len(self.data), "end of the last payload")
        check(exceptions == self.exceptions, "number of exceptions")

    def decode(self):
        """Reads the payloads to `weights`, and large integers and groups, by their places, for `numbers`."""
        self.matrix = [[0] * self.cols for _ in range(self.rows)]
        self.large_integers, self.group_scales = {}, {}
        for tile in self.tiles:
            tile.decode()
        row_format = f"<{self.cols}{self.dtype.format}"
        self.weights = b"".join(struct.pack(row_format, *row) for row in self.matrix)
        check(crc32c(self.weights) == self.checksum, "checksum of the weights")

    def weight(self, coded, raw):
        """Combines coded and raw bits to those of the weight."""
        if self.i8:
            return (coded << self.r | raw) - (1 << self.c - 1 + self.r) & 0xFF
        exponent = self.exponents[coded]
        if self.dtype.name == "BF16":
            return raw >> 7 << 15 | exponent << 7 | raw & 0x7F
        if self.dtype.name == "F16":
            return (raw >> 7 & 1) << 15 | exponent << 10 | raw >> 8 << 7 | raw & 0x7F
        return raw >> 3 << 7 | exponent << 3 | raw & 7

    def numbers(self):
        """Returns the dequantized weights in binary32."""
        scales = struct.unpack_from(f"<{self.rows * self.row_scales}H", self.data, self.scales_start)
        for row, weights in enumerate(self.matrix):
            row_scale = bfloat16(scales[row]) if self.row_scales else 1.0
            for col, weight in enumerate(weights):
                number = self.large_integers.get((row, col)) or self.number(weight)
                if self.groups:
                    scale, zero_point = self.group_scales[row, col // 128]
                    number = scale * (number - zero_point)
                yield binary32(row_scale * number)

    def number(self, weight):
        if self.i8:
            return signed(weight)
        if self.dtype.name == "BF16":
            return bfloat16(weight)
        if self.dtype.name == "F16":
            return struct.unpack("<e", struct.pack("<H", weight))[0]
        sign, exponent, mantissa = weight >> 7, weight >> 3 & 15, weight & 7
        number = (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0 ** -9
        return -number if sign else number


def decode_table(frequencies, s):
    """Returns the slots: symbol, n, and the remainder followed by n zeros."""
    check(sum(frequencies) == 4096, "sum of the frequencies")
    check(s == 2 or max(frequencies) <= 1024, "a frequency above 1024")
    occurrences = []
    for symbol, f in enumerate(frequencies):
        for k in range(f):
            key = math.inf if f == 1 else (2 * k + 1 << 31) // f
            occurrences.append((key, symbol, f + k))
    slots = []
    for _, symbol, x in sorted(occurrences):
        n = 13 - x.bit_length()
        slots.append((symbol, n, (x << n) - 4096))
    return slots


def bfloat16(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


LARGEST = (2 - 2.0 ** -23) * 2.0 ** 127


def binary32(number):
    """Rounds to binary32, ties to even; finite numbers to at most the largest finite one."""
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.copysign(LARGEST, number)
