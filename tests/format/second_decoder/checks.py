"""Reports invalid input, and computes the checksum of docs/format.md; see decode.py."""


class FormatError(Exception):
    """The blob or the file is not valid."""


def check(valid, fault):
    if not valid:
        raise FormatError(fault)


def ceil_div(x, y):
    return -(-x // y)


CRC_TABLE = list(range(256))
for _ in range(8):
    CRC_TABLE = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in CRC_TABLE]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
