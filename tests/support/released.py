"""The messages of a recorded release, beside today's: they know only the fields that the release had."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

RELEASES: Final = Path(__file__).resolve().parents[1] / "releases"


def released_message(version: str, name: str) -> Any:
    """Return the class of the message `token_service.v1.NAME` of a release."""
    image = FileDescriptorSet.FromString((RELEASES / version / "protos.binpb").read_bytes())
    pool = DescriptorPool()
    waiting = {file.name: file for file in image.file}
    while waiting:  # a file may come before the files that it imports
        for file in [each for each in waiting.values() if not waiting.keys() & set(each.dependency)]:
            pool.Add(waiting.pop(file.name))
    return GetMessageClass(pool.FindMessageTypeByName(f"token_service.v1.{name}"))
