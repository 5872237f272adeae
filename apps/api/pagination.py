"""Opaque cursors into the change sequence."""

import base64
import binascii

from apps.api.errors import BadParameter
from apps.exports.selectors import START, Position

_MAXIMUM = 2**63 - 1
_NOT_OURS = "The cursor is not one that this API gave out. Leave it out to start from the beginning."


def encode_cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(f"1.{position.transaction_id}.{position.change_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """The position that `encode_cursor` was given; "" is the start. Raises `BadParameter`."""
    if not cursor:
        return START
    try:
        version, transaction_id, change_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").split(".")
        position = Position(int(transaction_id), int(change_id))
    except (binascii.Error, ValueError) as error:
        raise BadParameter(_NOT_OURS) from error
    in_range = -1 <= position.transaction_id <= _MAXIMUM and 0 <= position.change_id <= _MAXIMUM
    if version != "1" or not in_range or encode_cursor(position) != cursor:
        raise BadParameter(_NOT_OURS)
    return position
