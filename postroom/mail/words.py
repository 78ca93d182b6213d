"""Text that has to survive in a header line: what may never stand there, and encoded-words both ways.

Follows RFC 2047 (encoded-words) and RFC 5322 2.2 (a field body is one line of printable text). `address`
and `headers` build on this; nothing here knows a field's name or grammar.
"""

from __future__ import annotations

import binascii
import codecs
import re

from postroom.errors import Invalid

# C0 and C1 controls but TAB, DEL, the two Unicode line ends, and halves of surrogate pairs, which no
# charset can carry. U+0085 (NEL) is a line end in many programs and lies within C1.
FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,75})\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)[ \t\r\n]+(?==\?[^?\s]{1,75}\?[bBqQ]\?[^?\s]*\?=)")
_MAX_WORD = 75  # RFC 2047 2
_OVERHEAD = len("=?utf-8?b??=")

# Safe in a phrase as well as in unstructured text (RFC 2047 5 (3)); a space is written as "_".
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = tuple("_" if b == 0x20 else chr(b) if b in _Q_SAFE else f"={b:02X}" for b in range(256))
_Q_SINGLE = bytes(sorted(_Q_SAFE | {0x20}))

# Decoders of text and nothing else: "zlib", "unicode_escape", "punycode" and "undefined" are codecs of
# Python's too, and a name from outside must not reach them.
_TEXT_CODEC = re.compile(
    r"ascii|utf-(?:8|16|32)(?:-sig|-le|-be)?|iso8859-\d+|cp\d+|koi8-[rtu]|gb2312|gbk|gb18030|big5(?:hkscs)?"
    r"|euc_(?:jp|kr|jis_2004|jisx0213)|shift_jis(?:_2004|x0213)?|iso2022_(?:jp(?:_[123]|_2004|_ext)?|kr)|hz"
    r"|johab|tis-620|mac-[a-z]+|ptcp154|kz1048"
)


def check_text(text: str, field: str) -> None:
    """Refuse text that could end or hide a line: subjects, display names, tags, file names, values.

    Raises Invalid(field, ...) for CR, LF, NUL and other controls but TAB, U+2028, U+2029, lone
    surrogates, and for encoded-words that decode to any of these (RFC 2047; RFC 5322 2.2).
    """
    found = FORBIDDEN.search(text)
    if found is not None:
        raise Invalid(field, _forbidden_reason(found.group()))
    if "=?" in text:
        found = FORBIDDEN.search(decode_words(text))
        if found is not None:
            raise Invalid(
                field, f"hides a character inside an encoded-word: {_forbidden_reason(found.group())}"
            )


def _forbidden_reason(char: str) -> str:
    if char in "\r\n\x85\u2028\u2029":
        return "must not contain a line break"
    return f"must not contain the character U+{ord(char):04X}"


def text_codec(charset: str) -> str | None:
    """Python's name for a charset from outside, or None when it is unknown or no charset of text."""
    if not charset.isascii() or not 1 <= len(charset) <= 40 or "\x00" in charset:
        return None
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return name if _TEXT_CODEC.fullmatch(name) else None


def decode_text(data: bytes, charset: str = "") -> str:
    """Bytes of a charset as text; never raises. What cannot be decoded becomes U+FFFD.

    An unknown charset is read as UTF-8 when it is that, else as Windows-1252.
    """
    codec = text_codec(charset) if charset else None
    if codec is not None and codec != "ascii":
        # utf-16 and utf-32 let lone surrogates through in some directions; text never keeps one.
        try:
            return data.decode(codec, "replace").encode("utf-8", "replace").decode("utf-8")
        except (UnicodeError, ValueError):
            return data.decode("utf-8", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def decode_words(text: str) -> str:
    """`text` with every encoded-word in it decoded (RFC 2047 6), forgiving; takes linear time.

    Blanks between two adjacent encoded-words vanish. The charset `utf-8*en` (RFC 2231 5) is read as
    utf-8. A word that cannot be decoded stays as it is. May return any character, line ends included.
    """
    if "=?" not in text:
        return text
    text = _BETWEEN_WORDS.sub("", text)
    out: list[str] = []
    # Adjacent words of one charset are joined before decoding: some programs split inside a character.
    pending, pending_charset, end = b"", "", 0
    for word in _ENCODED_WORD.finditer(text):
        charset, kind, body = word.group(1).partition("*")[0].lower(), word.group(2), word.group(3)
        data = _word_bytes(kind, body)
        if data is None or text_codec(charset) is None:
            continue
        if word.start() == end and charset == pending_charset:
            pending += data
        else:
            out += [decode_text(pending, pending_charset), text[end : word.start()]]
            pending, pending_charset = data, charset
        end = word.end()
    out += [decode_text(pending, pending_charset), text[end:]]
    return "".join(out)


def _word_bytes(kind: str, body: str) -> bytes | None:
    try:
        raw = body.encode("ascii")
    except UnicodeEncodeError:
        return None
    if kind in "bB":
        try:
            return binascii.a2b_base64(raw.rstrip(b"=") + b"=" * (-len(raw.rstrip(b"=")) % 4))
        except binascii.Error:
            return None
    return binascii.a2b_qp(raw, header=True)


def encode_words(text: str, first_room: int = _MAX_WORD) -> list[str]:
    """`text` as UTF-8 encoded-words of at most 75 characters, to be joined by CRLF and a space.

    Q or B, whichever is shorter; a character is never split. `first_room` is how long the first word
    may be. The decoder gets `text` back exactly, blanks included (RFC 2047 2, 4, 5, 6.2).
    """
    data = text.encode("utf-8", "replace")
    plain = len(data) - len(data.translate(None, _Q_SINGLE))
    quoted = plain + 3 * (len(data) - plain) <= (len(data) + 2) // 3 * 4
    words: list[str] = []
    room = max(min(first_room, _MAX_WORD) - _OVERHEAD, 12)  # 12: any one character fits, in Q and in B
    if quoted:
        used: list[str] = []
        length = 0
        for char in text:
            piece = "".join([_Q[b] for b in char.encode("utf-8", "replace")])
            if length + len(piece) > room:
                words.append("=?utf-8?q?" + "".join(used) + "?=")
                used, length, room = [], 0, _MAX_WORD - _OVERHEAD
            used.append(piece)
            length += len(piece)
        words.append("=?utf-8?q?" + "".join(used) + "?=")
        return words
    start = 0
    while start < len(data):
        end = min(start + room // 4 * 3, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(
            "=?utf-8?b?" + binascii.b2a_base64(data[start:end], newline=False).decode("ascii") + "?="
        )
        start, room = end, _MAX_WORD - _OVERHEAD
    return words
