"""Decodes a tile, following docs/format.md from "Streams" on; see decode.py."""

import struct

from checks import ceil_div, check, crc32c


class Tile:
    """A tile, given its record in the index."""

    def __init__(self, blob, record, row, col):
        self.blob, self.row, self.col = blob, row, col
        self.rows, self.cols = min(256, blob.rows - row), min(256, blob.cols - col)
        self.offset, self.checksum, self.lines, self.exceptions, self.kind, zeros, *columns = struct.unpack_from(
            "<IIHHB3s8B8B8H8H", blob.data, record)
        check(self.kind in (0, 1) and zeros == bytes(3), "kind of a tile, or the zeros behind it")
        check(self.kind == 1 or self.exceptions == 0, "exceptions of a raw tile")
        columns = [columns[i:i + 8] for i in range(0, 32, 8)]
        slabs = ceil_div(self.rows, 32)
        kept = slabs if self.kind == 1 else 0
        check(not any(any(column[kept:]) for column in columns), "zeros for slabs that are not there")
        check(all(full + tail <= 49 and tail <= 15 for full, tail, *_ in zip(*columns)), "rows of words")
        starts = [*columns[3][:slabs], self.exceptions]
        check(starts[0] == 0 and starts == sorted(starts), "exception starts")
        self.slabs = [Slab(self, 32 * i, *(column[i] for column in columns[:3]), starts[i + 1] - starts[i])
                      for i in range(slabs)]

    def decode(self):
        payload = self.blob.data[128 * self.offset:128 * (self.offset + self.lines)]
        check(crc32c(payload) == self.checksum, "checksum of a tile")
        self.parts = Parts(payload)
        if self.kind == 1:
            self.decode_coded()
        else:
            self.decode_raw()
        check(len(payload) - self.parts.position < 128, "lines of a tile")

    def decode_raw(self):
        for row in range(self.row, self.row + self.rows):
            self.blob.matrix[row][self.col:self.col + self.cols] = self.parts.take(self.blob.dtype.format, self.cols)
        self.parts.position += -self.parts.position % 16 if self.blob.groups else 0
        self.read_groups()

    def decode_coded(self):
        parts, slabs = self.parts, self.slabs
        for slab in slabs:
            slab.tail_lengths = [nibble for byte in parts.take("B", 16) for nibble in (byte & 15, byte >> 4)]
            check(max(slab.tail_lengths) <= slab.tail, "tail length")
        for slab in slabs:
            slab.planes = [(w, read_plane(parts, w, slab.fragments)) for w in (8, 4, 2, 1) if self.blob.r & w]
        self.read_groups()
        for slab in slabs:
            rows = [parts.take("I", 32) for _ in range(slab.full)]
            slab.words = [[row[lane] for row in rows] for lane in range(32)]
        for slab in slabs:
            slab.listed = parts.take("I", slab.exceptions)
        tail_words = 0
        for slab in slabs:
            check(slab.tail_start == tail_words, "tail start")
            tail_words += sum(slab.tail_lengths)
            for row in range(slab.tail):
                lanes = [lane for lane in range(32) if slab.tail_lengths[lane] > row]
                for lane, word in zip(lanes, parts.take("I", len(lanes))):
                    slab.words[lane].append(word)
        for slab in slabs:
            slab.decode()
            slab.put_exceptions()

    def read_groups(self):
        for slab in self.slabs if self.blob.groups else []:
            scales = self.parts.take("e", 64)
            nibbles = self.parts.take("B", 32) if self.blob.zero_points else [0x88] * 32
            for row in range(32):
                for group in range(2):
                    n = row % 8 * 8 + group * 4 + row // 8
                    zero_point = (nibbles[n // 2] >> 4 * (n % 2) & 15) - 8
                    place = self.row + slab.row + row, self.col // 128 + group
                    self.blob.group_scales[place] = scales[n], zero_point


class Slab:
    """A slab, which starts at `row` of its tile."""

    def __init__(self, tile, row, full, tail, tail_start, exceptions):
        self.tile, self.blob, self.row = tile, tile.blob, row
        self.full, self.tail, self.tail_start, self.exceptions = full, tail, tail_start, exceptions
        self.strips = min(2, ceil_div(tile.rows - row, 16))
        self.steps = ceil_div(tile.cols, 16)
        self.fragments = self.strips * self.steps

    def place(self, fragment, lane, register, half):
        """Returns row and column in the tile."""
        step, strip = divmod(fragment, self.strips)
        g, t = divmod(lane, 4)
        w = 2 * (register // 2) + half
        row = self.row + 16 * strip + g + 8 * (register % 2)
        if self.steps % 2 == 1 and step == self.steps - 1:
            return row, 16 * step + 4 * t + w
        return row, 32 * (step // 2) + 8 * t + 4 * (step % 2) + w

    def decode(self):
        c, s = self.blob.c, self.blob.s
        for lane in range(32):
            rows, count = self.full + self.tail, self.fragments * (8 // s)
            symbols = decode_stream(self.words[lane], rows, self.blob.slots, count)
            planes = [(width, words[lane]) for width, words in self.planes]
            for number, symbol in enumerate(symbols):
                fragment, j = divmod(number, 8 // s)
                for f in range(s):
                    register, half = (2 * (j // 2) + f, j % 2) if s == 2 else (2 * j + f % 2, f // 2)
                    coded = symbol >> c * f & (1 << c) - 1
                    weight = self.blob.weight(coded, raw_bits(planes, 4 * fragment + register, half))
                    self.put(weight, self.place(fragment, lane, register, half))

    def put(self, weight, place):
        row, col = place
        if row < self.tile.rows and col < self.tile.cols:
            self.blob.matrix[self.tile.row + row][self.tile.col + col] = weight

    def put_exceptions(self):
        before = -1
        for word in self.listed:
            check(word >> 16 > before and word >> 16 & 7 == 0, "order of the exceptions")
            before = word >> 16
            fragment, weight = word >> 27, word & 0xFFFF
            row, col = place = self.place(fragment, word >> 22 & 31, word >> 20 & 3, word >> 19 & 1)
            check(fragment < self.fragments and row < self.tile.rows and col < self.tile.cols, "place of an exception")
            if self.blob.i8 and weight > 0xFF:
                check(self.blob.has_large_integers, "an exception of more than a byte")
                self.blob.large_integers[self.tile.row + row, self.tile.col + col] = large_integer(weight)
            self.put(weight if self.blob.width == 2 else weight & 0xFF, place)


class Parts:
    """Reads the parts of a payload in order."""

    def __init__(self, payload):
        self.payload, self.position = payload, 0

    def take(self, kind, count):
        start, self.position = self.position, self.position + struct.calcsize(f"<{count}{kind}")
        check(self.position <= len(self.payload), "the parts of a tile are longer than its payload")
        return struct.unpack_from(f"<{count}{kind}", self.payload, start)


def decode_stream(words, rows, slots, count):
    words = words + [0] * (rows - len(words))
    bits = int.from_bytes(struct.pack(f">{rows}I", *words), "big")
    left, n, remainder = 32 * rows, 12, 0
    symbols = []
    for _ in range(count):
        left -= n
        check(left >= 0, "stream")
        symbol, n, remainder = slots[remainder | bits >> left & (1 << n) - 1]
        symbols.append(symbol)
    return symbols


def read_plane(parts, width, fragments):
    """Returns the plane's words of each lane."""
    count = ceil_div(4 * fragments, 16 // width)
    lanes = [[] for _ in range(32)]
    for first in range(0, count, 4):
        for lane in lanes:
            lane += parts.take("I", min(4, count - first))
    return [[exchange_bits(word) for word in lane] for lane in lanes] if width == 8 else lanes


def exchange_bits(word):
    """Exchanges bits 7 and 15, and bits 23 and 31."""
    unequal = (word ^ word >> 8) & 0x00800080
    return word ^ unequal ^ unequal << 8


def raw_bits(planes, register, half):
    raw = shift = 0
    for width, words in planes:
        number, place = divmod(register, 16 // width)
        raw |= (words[number] >> 16 * half + width * place & (1 << width) - 1) << shift
        shift += width
    return raw


def large_integer(bits):
    integer = signed(bits & 0xFF) + 256 * signed(bits >> 8)
    odd = abs(integer) // (integer & -integer)
    check(-32768 <= integer <= 32512 and odd < 256, "a large integer")
    return integer


def signed(byte):
    return byte - 256 if byte > 127 else byte
