"""Every call of this API once: what routes it, what it needs, and how the document describes it."""

from __future__ import annotations

from postroom.core.key import Scope
from postroom.dialects.postmark import (
    bounces,
    bulk,
    hits,
    inbound_rules,
    outbound,
    pushing,
    sending,
    servers,
    streams,
    suppressions,
    templated,
    templates,
)
from postroom.dialects.postmark.calls import Op, Token
from postroom.http.json import MOST_TOKENS

_READ, _WRITE = Scope.CHANNEL_SETTINGS_READ, Scope.CHANNEL_SETTINGS_WRITE
_ACCOUNT = Token.ACCOUNT
_PAGE = {"count": "Rows to return, 1 to 500; required.", "offset": "Rows to skip; required."}
_BODY = (404, 408, 409, 413, 422)  # what a call that takes a body may be told
_SERVERS, _SERVER = "/servers", "/servers/{id}"
_STREAMS, _STREAM = "/message-streams", "/message-streams/{stream}"
_LIST = f"{_STREAM}/suppressions"
_SEND, _SEEN = Scope.TRANSACTIONALS_WRITE, Scope.TRANSACTIONALS_READ
_BULK = "/email/bulk"
MOST_BULK_TOKENS = 1_000_000
_OUTBOUND = "/messages/outbound"
_HITS = {**_PAGE, "recipient": "Of this address.", "tag": "With this tag.",
         **dict.fromkeys(hits.NOT_KNOWN, "Not known: finds nothing."), "platform": "Unknown, or none.",
         "fromdate": "From this day or time on.", "todate": "Until this day or time.",
         "messagestream": "On this stream; else on outbound."}  # fmt: skip
_TEMPLATES, _TEMPLATE = "/templates", "/templates/{template}"
_TEMPLATES_READ, _TEMPLATES_WRITE = Scope.TEMPLATES_READ, Scope.TEMPLATES_WRITE
_BOUNCES, _BOUNCE = "/bounces", "/bounces/{id}"
_RULES = "/triggers/inboundrules"
_LIST_READ, _LIST_WRITE = Scope.SUBSCRIBERS_READ, Scope.SUBSCRIBERS_WRITE

OPERATIONS: tuple[Op, ...] = (
    Op("POST", "/email", sending.email, _SEND, "Send a message", "Sent", "Email", errors=_BODY,
       holds_message=True, testable=True),
    Op("POST", "/email/batch", sending.batch, _SEND, "Send up to 500 messages", "SentBatch", "EmailBatch",
       errors=_BODY, holds_message=True, most_tokens=MOST_TOKENS, testable=True),
    Op("POST", "/email/withtemplate", templated.with_template, _SEND, "Send a message made from a template",
       "Sent", "TemplateEmail", errors=_BODY, holds_message=True, most_tokens=MOST_TOKENS, testable=True),
    Op("POST", "/email/batchwithtemplates", templated.batch_with_templates, _SEND,
       "Send up to 500 messages made from templates", "SentBatch", "TemplateBatch", errors=_BODY,
       holds_message=True, most_tokens=MOST_TOKENS, testable=True),
    Op("POST", _BULK, bulk.create, Scope.BROADCASTS_WRITE, "Send a message to many", "BulkSent",
       "BulkRequest", errors=_BODY, holds_message=True, most_tokens=MOST_BULK_TOKENS, testable=True),
    Op("GET", _BULK, bulk.index, Scope.BROADCASTS_READ, "List bulks, newest first", "BulkList", errors=(422,),
       query={"count": "Rows to return, 1 to 500.", "PaginationKey": "That of the page before."}),
    Op("GET", f"{_BULK}/{{bulk}}", bulk.show, Scope.BROADCASTS_READ, "Show how far a bulk got", "Bulk",
       errors=(404, 422)),
    Op("GET", _OUTBOUND, outbound.index, _SEEN, "Search messages", "MessageList", errors=(422,),
       query={**_PAGE, "recipient": "Sent to this address.", "fromemail": "From this address.",
              "tag": "With this tag.", "status": "queued, sent or processed.",
              "fromdate": "From this day or time on.", "todate": "Until this day or time.",
              "subject": "With this in its subject.", "messagestream": "On this stream; else on outbound.",
              "metadata_x": "With this value of the metadata x, for any name x."}),
    Op("GET", f"{_OUTBOUND}/opens", hits.opens, _SEEN, "Search opens", "OpenList", errors=(422,),
       query=_HITS),
    Op("GET", f"{_OUTBOUND}/opens/{{message}}", hits.opens_of_message, _SEEN, "List a message's opens",
       "OpenList", errors=(422,), query=_PAGE),
    Op("GET", f"{_OUTBOUND}/clicks", hits.clicks, _SEEN, "Search clicks", "ClickList", errors=(422,),
       query=_HITS),
    Op("GET", f"{_OUTBOUND}/clicks/{{message}}", hits.clicks_of_message, _SEEN, "List a message's clicks",
       "ClickList", errors=(422,), query=_PAGE),
    Op("GET", f"{_OUTBOUND}/{{message}}/details", outbound.details, _SEEN, "Show a message and its events",
       "MessageDetails", errors=(422,)),
    Op("GET", f"{_OUTBOUND}/{{message}}/dump", outbound.dump, _SEEN, "Show a message's source", "Dump",
       errors=(422,)),
    Op("GET", "/deliverystats", bounces.stats, _SEEN, "Count bounces by type", "DeliveryStats",
       errors=(422,)),
    Op("GET", _BOUNCES, bounces.index, _SEEN, "Search bounces", "BounceList", errors=(422,),
       query={**_PAGE, "type": "Of this type.", "inactive": "Whether nothing is sent to the address since.",
              "emailFilter": "With this in the recipient's address.", "tag": "With this tag.",
              "messageID": "Of this message.", "fromdate": "From this day or time on.",
              "todate": "Until this day or time.", "messagestream": "On this stream; else on outbound."}),
    Op("GET", f"{_BOUNCES}/tags", bounces.tags, _SEEN, "List the tags of what bounced", "BounceTags",
       errors=(422,)),
    Op("GET", _BOUNCE, bounces.show, _SEEN, "Show a bounce", "BounceDetails", errors=(400, 422)),
    Op("GET", f"{_BOUNCE}/dump", bounces.dump, _SEEN, "Show what was said in full", "Dump",
       errors=(400, 422)),
    Op("PUT", f"{_BOUNCE}/activate", bounces.activate, _LIST_WRITE, "Send to its address again", "Activated",
       errors=(400, *_BODY)),
    Op("GET", _RULES, inbound_rules.index, _READ, "List whose mail is not taken", "InboundRuleList",
       errors=(422,), query=_PAGE),
    Op("POST", _RULES, inbound_rules.create, _WRITE, "Take no mail from an address or a domain",
       "InboundRule", "InboundRuleRequest", errors=_BODY),
    Op("DELETE", f"{_RULES}/{{id}}", inbound_rules.delete, _WRITE, "Take it again", "Done", errors=_BODY),
    Op("GET", _SERVERS, servers.index, _READ, "List the account's servers", "ServerList", errors=(422,),
       query={**_PAGE, "name": "Only servers with this in their name."}, token=_ACCOUNT),
    Op("POST", _SERVERS, servers.create, Scope.ALL, "Create a server", "Server", "ServerRequest",
       errors=_BODY, token=_ACCOUNT),
    Op("GET", _SERVER, servers.show, _READ, "Show a server", "Server", errors=(422,), token=_ACCOUNT),
    Op("PUT", _SERVER, servers.update, _WRITE, "Change a server", "Server", "ServerChanges", errors=_BODY,
       token=_ACCOUNT),
    Op("DELETE", _SERVER, servers.delete, Scope.ALL, "Delete a server with all that is its", "Done",
       errors=_BODY, token=_ACCOUNT),
    Op("GET", "/server", servers.show_own, _READ, "Show the token's server", "Server", errors=(422,)),
    Op("PUT", "/server", servers.update_own, _WRITE, "Change the token's server", "Server", "ServerChanges",
       errors=_BODY),
    Op("GET", _STREAMS, streams.index, _READ, "List message streams", "StreamList", errors=(422,),
       query={"MessageStreamType": "All, Transactional, Broadcasts or Inbound.",
              "IncludeArchivedStreams": "Archived ones too."}),
    Op("POST", _STREAMS, streams.create, _WRITE, "Create a message stream", "Stream", "StreamRequest",
       errors=_BODY),
    Op("GET", _STREAM, streams.show, _READ, "Show a message stream", "Stream", errors=(422,)),
    Op("PATCH", _STREAM, streams.edit, _WRITE, "Change a message stream", "Stream", "StreamChanges",
       errors=_BODY),
    Op("POST", f"{_STREAM}/archive", streams.archive, _WRITE, "Take nothing more on a message stream",
       "ArchivedStream", errors=_BODY),
    Op("POST", f"{_STREAM}/unarchive", streams.unarchive, _WRITE, "Take messages on it again", "Stream",
       errors=_BODY),
    Op("GET", f"{_LIST}/dump", suppressions.dump, _LIST_READ, "List who gets nothing on a message stream",
       "SuppressionDump", errors=(422,),
       query={"SuppressionReason": "HardBounce, SpamComplaint or ManualSuppression.",
              "Origin": "Recipient, Customer or Admin.", "fromdate": "From this day or time on.",
              "todate": "Until this day or time.", "EmailAddress": "One address."}),
    Op("POST", _LIST, suppressions.create, _LIST_WRITE, "Suppress up to 50 addresses", "SuppressionResults",
       "SuppressionRequest", errors=_BODY),
    Op("POST", f"{_LIST}/delete", suppressions.delete, _LIST_WRITE, "Take up to 50 addresses off the list",
       "SuppressionResults", "SuppressionRequest", errors=_BODY),
    Op("GET", _TEMPLATES, templates.index, _TEMPLATES_READ, "List templates", "TemplateList", errors=(422,),
       query={**_PAGE, "TemplateType": "All, Standard or Layout.",
              "LayoutTemplate": "Only those inside the layout with this alias."}),
    Op("POST", _TEMPLATES, templates.create, _TEMPLATES_WRITE, "Create a template", "TemplateHead",
       "TemplateRequest", errors=_BODY, holds_message=True),
    Op("POST", f"{_TEMPLATES}/validate", templates.validate, _TEMPLATES_READ, "Try a template",
       "TemplateVerdict", "TemplateExamination", errors=_BODY, holds_message=True, most_tokens=MOST_TOKENS),
    Op("PUT", f"{_TEMPLATES}/push", pushing.push, _TEMPLATES_WRITE, "Push templates to another server",
       "PushedTemplates", "TemplatePush", errors=_BODY, token=_ACCOUNT),
    Op("GET", _TEMPLATE, templates.show, _TEMPLATES_READ, "Show a template, by number or alias", "Template",
       errors=(422,)),
    Op("PUT", _TEMPLATE, templates.edit, _TEMPLATES_WRITE, "Change a template", "TemplateHead",
       "TemplateChanges", errors=_BODY, holds_message=True),
    Op("DELETE", _TEMPLATE, templates.delete, _TEMPLATES_WRITE, "Delete a template", "Done", errors=_BODY),
)  # fmt: skip
