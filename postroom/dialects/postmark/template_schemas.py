"""What the OpenAPI document says of templates."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.dialects.postmark.sending_schemas import ENVELOPE
from postroom.dialects.postmark.template_fields import KINDS
from postroom.http.openapi import Json, record, text

_TYPE: Json = text("Layout: what stands around others.", enum=[*KINDS])
_SOURCES: Json = {
    "Subject": text("Not of a layout.", null=True),
    "HtmlBody": text(null=True),
    "TextBody": text(null=True),
}
_NAMED: Json = {
    "Name": text(),
    "Alias": text("Its name in requests: a letter, then letters, digits, `.`, `_`, `-`.", null=True),
    "LayoutTemplate": text("The alias of the layout it is put into.", null=True),
}
_HEAD: Json = {
    "TemplateId": {"type": "integer"},
    "Active": {"type": "boolean", "description": "False: it was deleted."},
    "TemplateType": _TYPE,
    **_NAMED,
}
_WHOLE: Json = {**_HEAD, **_SOURCES, "AssociatedServerId": {"type": "integer"}}
_PROBLEM: Json = record(
    ("Message", "Line", "CharacterPosition"),
    Message=text(),
    Line={"type": "integer", "description": "From 1; 0: of the whole."},
    CharacterPosition={"type": "integer", "description": "Of the tag in its line, from 1."},
)
_PART: Json = {
    "type": ["object", "null"],
    "properties": {
        "ContentIsValid": {"type": "boolean"},
        "ValidationErrors": {"type": "array", "items": _PROBLEM},
        "RenderedContent": text(null=True),
    },
}
_MODEL: Json = {"type": "object", "description": "Values by name, of any JSON."}
TEMPLATE: Json = {
    "TemplateId": {"type": "integer", "description": "Of the template; counts before TemplateAlias."},
    "TemplateAlias": text(),
    "InlineCss": {"type": "boolean", "default": True},
}
_TO = ("To", "Cc", "Bcc")
_BULK: Json = {
    "Id": text("A UUID."),
    "SubmittedAt": text(format="date-time"),
    "Status": text(enum=["Accepted", "Processing", "Completed"]),
    "TotalMessages": {"type": "integer"},
    "PercentageCompleted": {"type": "integer"},
    "ReleasedCount": {"type": "integer", "description": "Messages that were accepted."},
    "FailedCount": {"type": "integer", "description": "Messages that could not be, such as suppressed ones."},
}
SCHEMAS: Mapping[str, Json] = {
    "TemplateEmail": record(("From", "TemplateModel"), **ENVELOPE, **TEMPLATE, TemplateModel=_MODEL),
    "TemplateBatch": record(
        ("Messages",),
        Messages={
            "type": "array",
            "items": {"$ref": "#/components/schemas/TemplateEmail"},
            "maxItems": 500,
        },
    ),
    "TemplatePush": record(
        ("SourceServerID", "DestinationServerID"),
        SourceServerID={"type": "integer"},
        DestinationServerID={"type": "integer"},
        PerformChanges={"type": "boolean", "default": False, "description": "Else only said."},
    ),
    "PushedTemplates": record(
        ("TotalCount", "Templates"),
        TotalCount={"type": "integer"},
        Templates={
            "type": "array",
            "items": record(
                ("Action", "Alias", "Name", "TemplateType"),
                Action=text(enum=["Create", "Edit"]),
                TemplateId={"type": "integer", "description": "At the destination, once it is there."},
                Alias=text(),
                Name=text(),
                TemplateType=_TYPE,
            ),
        },
    ),
    "BulkRequest": record(
        ("From", "Messages"),
        **{name: one for name, one in ENVELOPE.items() if name not in _TO},
        **TEMPLATE,
        **_SOURCES,
        Messages={
            "type": "array",
            "minItems": 1,
            "items": record(
                **{name: ENVELOPE[name] for name in (*_TO, "Metadata", "Headers")}, TemplateModel=_MODEL
            ),
        },
    ),
    "Bulk": record(tuple(_BULK), **_BULK, Subject=text("As it was sent, before it is filled.")),
    "BulkSent": record((*_BULK, "ID"), **_BULK, ID=text("The same as Id."), Subject=text()),
    "BulkList": record(
        ("Requests",),
        Requests={"type": "array", "items": {"$ref": "#/components/schemas/Bulk"}},
        PaginationKey=text("For the next page; not on the last one."),
    ),
    "TemplateHead": record(tuple(_HEAD), **_HEAD),
    "Template": record(tuple(_WHOLE), **_WHOLE),
    "TemplateList": record(
        ("TotalCount", "Templates"),
        TotalCount={"type": "integer"},
        Templates={"type": "array", "items": {"$ref": "#/components/schemas/TemplateHead"}},
    ),
    "TemplateRequest": record(("Name",), **_NAMED, **_SOURCES, TemplateType=_TYPE),
    "TemplateChanges": record(**_NAMED, **_SOURCES, TemplateType=_TYPE),
    "TemplateExamination": record(
        **_SOURCES,
        TestRenderModel=_MODEL,
        InlineCssForHtmlTestRender={"type": "boolean", "default": True},
        TemplateType=_TYPE,
        LayoutTemplate=_NAMED["LayoutTemplate"],
    ),
    "TemplateVerdict": record(
        ("AllContentIsValid", "Subject", "HtmlBody", "TextBody", "SuggestedTemplateModel"),
        AllContentIsValid={"type": "boolean"},
        Subject=_PART,
        HtmlBody=_PART,
        TextBody=_PART,
        SuggestedTemplateModel=_MODEL,
    ),
}
