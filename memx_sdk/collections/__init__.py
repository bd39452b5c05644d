"""Records and logs under a prefix, for adapters and programs that keep objects in memX.

`AsyncRecords` and `Records` keep named records, `AsyncLog` and `Log` ordered lists of items. Names of any form and
length, values of any size, several writers at once, and whatever others put among the keys are their affair and not
that of whoever uses them. `docs/collections.md` describes them.
"""

from memx_sdk.collections._async.log import AsyncLog
from memx_sdk.collections._async.records import AsyncRecords
from memx_sdk.collections._sync.log import Log
from memx_sdk.collections._sync.records import Records
from memx_sdk.collections.foreign import ForeignValues
from memx_sdk.collections.forms import JSON, BytesForm, Form, JsonForm, ModelForm, ObjectForm
from memx_sdk.collections.models import (
    Appended,
    BrokenRecordError,
    LogItem,
    LogPage,
    Record,
    RecordPage,
)
from memx_sdk.collections.names import (
    RESERVED_PREFIX,
    is_reserved,
    may_match_reserved,
    path,
    path_prefix,
    segment,
)

__all__ = [
    "JSON",
    "RESERVED_PREFIX",
    "Appended",
    "AsyncLog",
    "AsyncRecords",
    "BrokenRecordError",
    "BytesForm",
    "ForeignValues",
    "Form",
    "JsonForm",
    "Log",
    "LogItem",
    "LogPage",
    "ModelForm",
    "ObjectForm",
    "Record",
    "RecordPage",
    "Records",
    "is_reserved",
    "may_match_reserved",
    "path",
    "path_prefix",
    "segment",
]
