"""The descriptor pool of the messages of Envoy.

A pool has one definition per message. Packages such as `xds-protos` put the complete definitions in the default pool.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import any_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import status_pb2

POOL: Final = DescriptorPool()
for _file in (any_pb2, status_pb2):
    POOL.AddSerializedFile(_file.DESCRIPTOR.serialized_pb)
