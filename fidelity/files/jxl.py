"""Reads the depth of a JPEG XL, whose decoder for Pillow gives 8 bits per channel whatever there is."""

_CODESTREAM = b"\xff\x0a"
_BOX_HEAD_BYTES = 16
_SIZES = (9, 13, 18, 30)
_DEPTHS = (8, 10, 12)
_FLOAT_DEPTHS = (32, 16, 24)


class _Bits:
    """Reads numbers from bytes, lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._left = int.from_bytes(content, "little")

    def take(self, count: int = 1) -> int:
        """The next bits as a number."""
        taken, self._left = self._left & ((1 << count) - 1), self._left >> count
        return taken


def find_jxl_depth(content: bytes) -> int:
    """Bits per channel; 8 if they cannot be found (ISO/IEC 18181-1, SizeHeader and ImageMetadata)."""
    start = 0
    if not content.startswith(_CODESTREAM):
        box = next((place for name in (b"jxlc", b"jxlp") if (place := content.find(name)) >= 0), len(content))
        start = content.find(_CODESTREAM, box, box + _BOX_HEAD_BYTES)
    if start < 0:
        return 8
    bits = _Bits(content[start + len(_CODESTREAM) : start + 64])
    _skip_size(bits)
    if bits.take():  # all metadata is as by default
        return 8
    if bits.take():
        bits.take(3)  # orientation
        if bits.take():
            _skip_size(bits)
        if bits.take() or bits.take():  # a preview or an animation, of which headers of other types follow
            return 8
    depths = _FLOAT_DEPTHS if bits.take() else _DEPTHS
    chosen = bits.take(2)
    return depths[chosen] if chosen < len(depths) else 1 + bits.take(6)


def _skip_size(bits: _Bits) -> None:
    is_small = bits.take()
    _skip_side(bits, bool(is_small))
    if not bits.take(3):  # the ratio of the sides
        _skip_side(bits, bool(is_small))


def _skip_side(bits: _Bits, is_small: bool) -> None:
    bits.take(5 if is_small else _SIZES[bits.take(2)])
