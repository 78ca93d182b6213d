"""Postmark's own clients and a third one, unmodified, against the application on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from postmark import AccountClient, ServerClient
from postmark.exceptions import PostmarkAPIException
from postmark.models.bounces import BounceType
from postmark.models.outbound.enums import BulkJobStatus
from postmark.models.servers import DeliveryType, ServerColor, TrackLinks
from postmark.models.streams import MessageStreamType, UnsubscribeHandlingType
from postmark.models.suppressions import SuppressionOrigin, SuppressionReason
from postmark.models.templates import TemplateAction, TemplateTypeFilter
from postmarker.core import PostmarkClient
from postmarker.exceptions import ClientError

from postroom.actions import api_errors, hits
from postroom.actions.api_errors import ApiError
from postroom.actions.hits import Hit
from postroom.dialects.postmark.bulk_reading import read_slice
from postroom.dialects.postmark.mail_fields import ORIGIN
from postroom.engine.bulk_feed import BulkFeed
from postroom.ids import BounceId, DeliveryId
from tests.dialects.house import House
from tests.support.http import running_app
from tests.support.node import run_node
from tests.support.tools import needs


@pytest.fixture
async def url(house: House) -> AsyncIterator[str]:
    async with running_app(house.ctx) as found:
        yield found


async def javascript(url: str, *calls: dict[str, object]) -> list[Any]:  # Any: JSON values
    """What the client answers to each of these calls."""
    asked = {"host": url.removeprefix("http://"), "calls": calls}
    found: list[Any] = await asyncio.to_thread(run_node, "postmark.js", asked)
    return found


@needs("node")
async def test_javascript_servers_streams_and_suppressions(house: House, url: str) -> None:
    """In one run: the client's own tests, in their order. The new server's token works at once."""
    account, number = house.account_key, {"$": [0, "ID"]}
    token = {"$": [0, "ApiTokens", 0]}
    people = {"Suppressions": [{"EmailAddress": "Ann@example.net"}, {"EmailAddress": "nobody"}]}
    stream = {"ID": "news", "Name": "News", "MessageStreamType": "Broadcasts"}
    told = await javascript(
        url,
        {"account": account, "method": "createServer", "args": [{"Name": "node-js", "Color": "Red"}]},
        {"account": account, "method": "getServers", "args": [{"name": "node"}]},
        {"account": account, "method": "editServer", "args": [number, {"Name": "node-js 2"}]},
        {"account": account, "method": "getServer", "args": [number]},
        {"server": token, "method": "getServer"},
        {"server": token, "method": "editServer", "args": [{"InboundSpamThreshold": 10}]},
        {"server": token, "method": "createMessageStream", "args": [stream]},
        {"server": token, "method": "getMessageStreams", "args": [{"messageStreamType": "All"}]},
        {"server": token, "method": "editMessageStream", "args": ["news", {"Name": "The news"}]},
        {"server": token, "method": "getMessageStream", "args": ["news"]},
        {"server": token, "method": "createSuppressions", "args": ["news", people]},
        {"server": token, "method": "getSuppressions", "args": ["news", {"emailAddress": "ann@example.net"}]},
        {"server": token, "method": "getSuppressions", "args": ["news", {"emailAddress": "invalid"}]},
        {"server": token, "method": "deleteSuppressions", "args": ["news", people]},
        {"server": token, "method": "archiveMessageStream", "args": ["news"]},
        {"server": token, "method": "unarchiveMessageStream", "args": ["news"]},
        {"account": account, "method": "deleteServer", "args": [number]},
    )
    assert [one for one in told if "error" in one] == []
    answers = [one["ok"] for one in told]
    assert answers[0]["Color"] == "red"
    assert [one["Name"] for one in answers[1]["Servers"]] == ["node-js"]
    assert answers[2]["Name"] == answers[3]["Name"] == "node-js 2"
    assert answers[3] == answers[4]
    assert answers[5]["InboundSpamThreshold"] == 10
    assert answers[6]["UpdatedAt"] is None
    assert answers[7]["TotalCount"] == 4
    assert answers[8]["Name"] == answers[9]["Name"] == "The news"
    assert [one["Status"] for one in answers[10]["Suppressions"]] == ["Suppressed", "Failed"]
    assert [one["EmailAddress"] for one in answers[11]["Suppressions"]] == ["ann@example.net"]
    assert answers[12]["Suppressions"] == []
    assert [one["Status"] for one in answers[13]["Suppressions"]] == ["Deleted", "Failed"]
    assert answers[14]["ExpectedPurgeDate"]
    assert answers[15]["ArchivedAt"] is None
    assert "removed" in answers[16]["Message"]


@needs("node")
async def test_javascript_errors_are_of_their_kinds(house: House, url: str) -> None:
    account = house.account_key
    told = await javascript(
        url,
        {"account": "wrong", "method": "getServers"},
        {"server": account, "method": "getServer"},
        {"account": account, "method": "getServer", "args": [99]},
        {"account": account, "method": "getServers", "args": [{"count": -1, "offset": 0}]},
        {"server": house.server_key, "method": "getMessageStream", "args": ["nothing"]},
    )
    kinds = [(one["error"]["name"], one["error"]["code"], one["error"]["statusCode"]) for one in told]
    assert kinds == [
        ("InvalidAPIKeyError", 10, 401),
        ("InvalidAPIKeyError", 10, 401),
        ("ApiInputError", 601, 422),
        ("ApiInputError", 600, 422),
        ("ApiInputError", 1226, 422),
    ]


async def test_pythons_own_client_judges_every_answer_by_its_models(house: House, url: str) -> None:
    async with AccountClient(house.account_key, retries=0, base_url=url) as account:
        made = await account.server.create(
            "python",
            color=ServerColor.ORANGE,
            delivery_type=DeliveryType.SANDBOX,
            bounce_hook_url="https://hooks.example/bounce",
            track_links=TrackLinks.HTML_ONLY,
            inbound_spam_threshold=30,
        )
        assert (made.color, made.delivery_type) == (ServerColor.ORANGE, DeliveryType.SANDBOX)
        assert (await account.server.list(name="PYTH")).total == 1
        edited = await account.server.edit(made.id, name="python 3", track_opens=True)
        assert (edited.name, edited.track_opens) == ("python 3", True)
        assert await account.server.get(made.id) == edited
        (token,) = made.api_tokens
        await streams_and_suppressions(token, url)
        assert "removed" in (await account.server.delete(made.id)).message
        with pytest.raises(PostmarkAPIException) as raised:
            await account.server.get(made.id)
        assert raised.value.error_code == 601


async def streams_and_suppressions(token: str, url: str) -> None:
    async with ServerClient(token, retries=0, base_url=url) as server:
        assert (await server.server.get()).name == "python 3"
        made = await server.stream.create("news", "News", MessageStreamType.BROADCASTS, "Once a week")
        handling = made.subscription_management_configuration
        assert handling is not None
        assert handling.unsubscribe_handling_type is UnsubscribeHandlingType.POSTMARK
        assert (await server.stream.list()).total == 4
        assert (await server.stream.edit("news", name="The news")).name == "The news"
        assert [one.status for one in await server.suppressions.create("news", ["ann@example.net"])] == [
            "Suppressed"
        ]
        (row,) = await server.suppressions.dump("news", origin=SuppressionOrigin.CUSTOMER)
        assert row.suppression_reason is SuppressionReason.MANUAL_SUPPRESSION
        assert row.created_at.utcoffset() is not None
        assert [one.status for one in await server.suppressions.delete("news", ["ann@example.net"])] == [
            "Deleted"
        ]
        gone = await server.stream.archive("news")
        assert gone.expected_purge_date > made.created_at
        assert (await server.stream.list()).total == 3
        assert (await server.stream.list(include_archived=True)).total == 4
        assert (await server.stream.unarchive("news")).archived_at is None


async def test_postmarker_reads_and_changes_its_server(house: House, url: str) -> None:
    def work() -> None:
        client = PostmarkClient(house.server_key, house.account_key, root_api_url=url)
        server = client.server.get()
        assert str(server) == f"Server: Shop ({house.channel})"
        server.edit(Color="yellow", TrackOpens=True)
        assert (server.Color, server.TrackOpens) == ("yellow", True)
        with pytest.raises(ClientError, match=r"\[607\]"):
            server.edit(Color="pink")

    await asyncio.to_thread(work)


def mail(**more: object) -> dict[str, object]:
    return {
        "From": "Shop <hello@shop.example>",
        "To": "Ann <ann@example.net>",
        "Subject": "Hello",
        "TextBody": "Hi",
        "HtmlBody": "<p>Hi",
        "Tag": "welcome",
        "Metadata": {"order": "17"},
        **more,
    }


@needs("node")
async def test_javascript_sends_and_finds(house: House, url: str) -> None:
    key = house.server_key
    wrong = mail(From="a@stranger.example")
    told = await javascript(
        url,
        {"server": key, "method": "sendEmail", "args": [mail()]},
        {"server": key, "method": "sendEmailBatch", "args": [[mail(Tag="many"), wrong]]},
        {"server": key, "method": "getOutboundMessages", "args": [{"tag": "welcome"}]},
        {"server": key, "method": "getOutboundMessageDetails", "args": [{"$": [0, "MessageID"]}]},
        {"server": key, "method": "getOutboundMessageDump", "args": [{"$": [0, "MessageID"]}]},
        {"server": key, "method": "sendEmail", "args": [wrong]},
        {"server": "POSTMARK_API_TEST", "method": "sendEmail", "args": [wrong]},
    )
    assert [(one["error"]["name"], one["error"]["code"]) for one in told if "error" in one] == [
        ("ApiInputError", 400)
    ]
    sent, many, listed, shown, dumped = (one["ok"] for one in told[:5])
    assert (sent["Message"], sent["To"]) == ("OK", "Ann <ann@example.net>")
    assert [one["ErrorCode"] for one in many] == [0, 400]
    assert [one["MessageID"] for one in listed["Messages"]] == [sent["MessageID"]]
    assert shown["Metadata"] == {"order": "17"}
    assert dumped["Body"] == shown["Body"]
    assert told[6]["ok"]["Message"] == "Test job accepted"


async def test_python_sends_and_finds(house: House, url: str) -> None:
    async with ServerClient(house.server_key, retries=0, base_url=url) as server:
        sent = await server.outbound.send(mail())
        assert sent.success
        many = await server.outbound.send_batch([mail(Tag="many"), mail(From="a@stranger.example")])
        assert [one.error_code for one in many] == [0, 400]
        (found,) = (await server.outbound.list(tag="welcome")).items
        assert found.message_id == sent.message_id
        shown = await server.outbound.get(sent.message_id)
        assert (shown.text_body, shown.metadata) == ("Hi", {"order": "17"})
        assert (await server.outbound.get_dump(sent.message_id)).body == shown.body


async def test_postmarker_sends(house: House, url: str) -> None:
    def work() -> None:
        client = PostmarkClient(house.server_key, root_api_url=url)
        sent = client.emails.send(From="hello@shop.example", To="ann@example.net", Subject="x", TextBody="y")
        assert sent["ErrorCode"] == 0
        assert client.messages.outbound.get(sent["MessageID"]).Subject == "x"
        with pytest.raises(ClientError, match=r"\[300\]"):
            client.emails.send(From="hello@shop.example", To="nobody", Subject="x", TextBody="y")

    await asyncio.to_thread(work)


TEMPLATE: dict[str, object] = {
    "Name": "Welcome",
    "Alias": "welcome",
    "Subject": "Hello {{name}}",
    "HtmlBody": "<p>Hi {{name}}",
    "TextBody": "Hi {{name}}",
}
FILLED: dict[str, object] = {
    "From": "hello@shop.example",
    "To": "ann@example.net",
    "TemplateAlias": "welcome",
    "TemplateModel": {"name": "Ann"},
}
FRAME: dict[str, object] = {
    "Name": "Frame",
    "Alias": "frame",
    "TemplateType": "Layout",
    "HtmlBody": "<div>{{{@content}}}</div>",
}


@needs("node")
async def test_javascript_templates(house: House, url: str) -> None:
    """The client's own tests of templates, in one run."""
    number = {"$": [1, "TemplateId"]}
    asked: list[tuple[str, list[object]]] = [
        ("createTemplate", [FRAME]),
        ("createTemplate", [{**TEMPLATE, "LayoutTemplate": "frame"}]),
        ("getTemplates", [{"templateType": "Standard", "count": 10}]),
        ("getTemplate", ["welcome"]),
        ("editTemplate", [number, {"Name": "Hello"}]),
        ("getTemplate", [number]),
        ("validateTemplate", [{"Subject": "{{x}}", "TextBody": "y"}]),
        ("sendEmailWithTemplate", [FILLED]),
        ("sendEmailBatchWithTemplates", [[FILLED, {**FILLED, "TemplateAlias": "nothing"}]]),
        ("deleteTemplate", ["welcome"]),
        ("createTemplate", [{**FRAME, "Alias": "other", "HtmlBody": "no placeholder"}]),
        ("getTemplate", ["nothing"]),
    ]
    key = house.server_key
    calls: list[dict[str, object]] = [{"server": key, "method": one, "args": args} for one, args in asked]
    for source, destination in ((house.channel, house.other_channel), (98, 99), (house.channel, 99), (99, 1)):
        push = {"SourceServerID": source, "DestinationServerID": destination, "PerformChanges": True}
        calls.append({"account": house.account_key, "method": "pushTemplates", "args": [push]})
    told = await javascript(url, *calls)
    assert [one["error"]["code"] for one in told if "error" in one] == [1131, 1101, *[601] * 3]
    assert [one["error"]["message"].partition(":")[0] for one in told[-3:]] == [
        "The source and destination servers were not found.",
        "The destination server was not found.",
        "The source server was not found.",
    ]
    assert [one["Alias"] for one in told[-4]["ok"]["Templates"]] == ["frame"]
    assert "The layout content placeholder must be present" in told[10]["error"]["message"]
    answers = [one.get("ok") for one in told]
    assert answers[2]["TotalCount"] == 1
    assert answers[3]["LayoutTemplate"] == "frame"
    assert answers[5]["Name"] == answers[4]["Name"] == "Hello"
    assert answers[6]["Subject"]["RenderedContent"] == "x_Value"
    assert (answers[7]["ErrorCode"], answers[7]["To"]) == (0, "ann@example.net")
    assert [one["ErrorCode"] for one in answers[8]] == [0, 1101]
    wanted = "The Template's 'Alias' associated with this request is not valid or was not found."
    assert answers[8][1]["Message"] == wanted
    assert "removed" in answers[9]["Message"]


async def test_pythons_own_client_and_templates(house: House, url: str) -> None:
    async with ServerClient(house.server_key, retries=0, base_url=url) as server:
        await server.templates.create(FRAME)
        made = await server.templates.create({**TEMPLATE, "LayoutTemplate": "frame"})
        shown = await server.templates.get(made.template_id)
        assert (shown.subject, shown.layout_template) == ("Hello {{name}}", "frame")
        assert (await server.templates.edit("welcome", {"Name": "Hello"})).name == "Hello"
        listed = await server.templates.list(template_type=TemplateTypeFilter.LAYOUT)
        assert [one.alias for one in listed.items] == ["frame"]
        tried = await server.templates.validate({"TextBody": "{{#x}}", "Subject": "{{y}}"})
        assert tried.text_body is not None
        assert not tried.all_content_is_valid
        assert [one.line for one in tried.text_body.validation_errors] == [1]
        assert (await server.outbound.send_with_template(FILLED)).success
        many = await server.outbound.send_batch_with_template([FILLED, {**FILLED, "TemplateAlias": "none"}])
        assert [one.error_code for one in many] == [0, 1101]
        async with AccountClient(house.account_key, retries=0, base_url=url) as account:
            push = {
                "SourceServerID": str(house.channel),
                "DestinationServerID": str(house.other_channel),
                "PerformChanges": False,
            }
            pushed = await account.templates.push(push)
        assert [(one.action, one.alias) for one in pushed.templates] == [
            (TemplateAction.CREATE, "frame"),
            (TemplateAction.CREATE, "welcome"),
        ]
        assert "removed" in (await server.templates.delete("welcome")).message


BULK: dict[str, object] = {
    "From": "hello@shop.example",
    "Subject": "News",
    "TextBody": "Hi {{name}}",
    "Messages": [{"To": "ann@example.net", "TemplateModel": {"name": "Ann"}}],
}


@needs("node")
async def test_official_clients_send_bulks(house: House, url: str) -> None:
    key = house.server_key
    told = await javascript(
        url,
        {"server": key, "method": "sendBulkEmail", "args": [BULK]},
        {"server": key, "method": "getBulkEmailStatus", "args": [{"$": [0, "Id"]}]},
        {"server": key, "method": "getBulkEmailStatus", "args": ["nothing"]},
    )
    assert told[0]["ok"]["Status"] == told[1]["ok"]["Status"] == "Accepted"
    assert told[2]["error"]["code"] == 12
    await BulkFeed(house.ctx, {ORIGIN: read_slice}).run_once()
    async with ServerClient(key, retries=0, base_url=url) as server:
        done = await server.outbound.get_bulk_status(told[0]["ok"]["Id"])
        assert (done.status, done.percentage_completed) == (BulkJobStatus.COMPLETED, 100)
        assert (await server.outbound.send_bulk(BULK)).status is BulkJobStatus.ACCEPTED


async def test_postmarker_and_templates(house: House, url: str) -> None:
    def work() -> None:
        client = PostmarkClient(house.server_key, root_api_url=url)
        made = client.templates.create(Name="Welcome", Subject="Hello", TextBody="Hi {{name}}")
        client.templates.edit(made.TemplateId, Name="Hello")
        assert client.templates.get(made.TemplateId).Name == "Hello"
        assert [one.TemplateId for one in client.templates.all()] == [made.TemplateId]
        tried = client.templates.validate(Subject="{{x}}", TextBody="y", TestRenderModel={"x": "z"})
        assert tried["Subject"]["RenderedContent"] == "z"
        mail = {"From": "hello@shop.example", "To": "ann@example.net", "TemplateId": made.TemplateId}
        sent = client.emails.send_with_template(**mail, TemplateModel={"name": "Ann"})
        assert sent["ErrorCode"] == 0
        many = [client.emails.EmailTemplate(**mail, TemplateModel={}) for _ in range(2)]
        assert [one["ErrorCode"] for one in client.emails.send_template_batch(*many)] == [0, 0]
        assert "removed" in made.delete()


async def refused_messages(house: House) -> list[BounceId]:
    """Two messages that were taken and refused, which leave a bounce each; their numbers."""
    made = []
    for who in ("ann@example.net", "bob@example.net"):
        refused = ApiError(
            house.account,
            house.channel,
            "outbound",
            [who],
            "Bad sender.",
            "It was bad.",
            400,
            sender="a@b.example",
        )
        made += await api_errors.record(house.ctx, refused)
    return made


@needs("node")
async def test_javascript_looks_at_bounces(house: House, url: str) -> None:
    """The chapter of the client's own tests, and its filters."""
    key, (_, second) = house.server_key, await refused_messages(house)
    wanted = {"emailFilter": "bob", "type": "SMTPApiError", "inactive": False, "messageStream": "outbound"}
    told = await javascript(
        url,
        {"server": key, "method": "getDeliveryStatistics"},
        {"server": key, "method": "getBounces", "args": [{"count": 1}]},
        {"server": key, "method": "getBounces", "args": [wanted]},
        {"server": key, "method": "getBounce", "args": [{"$": [2, "Bounces", 0, "ID"]}]},
        {"server": key, "method": "getBounceDump", "args": [{"$": [2, "Bounces", 0, "ID"]}]},
        {"server": key, "method": "activateBounce", "args": [{"$": [2, "Bounces", 0, "ID"]}]},
        {"server": key, "method": "getBounces", "args": [{"count": -1}]},
        {"server": key, "method": "getBounce", "args": [999]},
    )
    assert [(one["error"]["name"], one["error"]["code"]) for one in told if "error" in one] == [
        ("ApiInputError", 1000),
        ("ApiInputError", 1001),
    ]
    stats, page, narrowed, shown, dumped, active = (one["ok"] for one in told[:6])
    assert [one["Count"] for one in stats["Bounces"]] == [2, 2]
    assert (page["TotalCount"], len(page["Bounces"])) == (2, 1)
    assert [one["ID"] for one in narrowed["Bounces"]] == [second]
    assert shown["Content"] == dumped["Body"]
    assert active["Bounce"]["ID"] == second


async def test_python_looks_at_bounces(house: House, url: str) -> None:
    first, second = await refused_messages(house)
    async with ServerClient(house.server_key, retries=0, base_url=url) as server:
        stats = await server.bounces.get_delivery_stats()
        assert [(one.name, one.count) for one in stats.bounces] == [("All", 2), ("SMTP API error", 2)]
        page = await server.bounces.list(type=BounceType.SMTP_API_ERROR, inactive=False, email_filter="ann")
        assert [one.id for one in page.items] == [first]
        shown = await server.bounces.get(second)
        assert shown.bounced_at.utcoffset() is not None
        assert (await server.bounces.get_dump(second)).body == shown.content
        assert (await server.bounces.activate(second)).bounce.id == second


async def test_postmarker_looks_at_bounces(house: House, url: str) -> None:
    first, second = await refused_messages(house)

    def work() -> None:
        client = PostmarkClient(house.server_key, root_api_url=url)
        assert client.bounces.deliverystats["Bounces"][0]["Count"] == 2
        assert [one.ID for one in client.bounces.all()] == [second, first]
        bounce = client.bounces.get(first)
        assert "ErrorCode: 400" in str(bounce.dump)
        assert bounce.activate() == "OK"
        assert client.bounces.tags == []

    await asyncio.to_thread(work)


@needs("node")
async def test_inbound_rules_by_three_clients(house: House, url: str) -> None:
    key = house.server_key
    told = await javascript(
        url,
        {"server": key, "method": "createInboundRuleTrigger", "args": [{"Rule": "spam@example.net"}]},
        {"server": key, "method": "getInboundRuleTriggers"},
        {"server": key, "method": "deleteInboundRuleTrigger", "args": [{"$": [0, "ID"]}]},
    )
    made, listed, gone = (one["ok"] for one in told)
    assert listed["InboundRules"] == [made]
    assert "removed" in gone["Message"]
    async with ServerClient(key, retries=0, base_url=url) as server:
        rule = await server.inbound_rules.create("bad.example")
        assert (await server.inbound_rules.list()).items == [rule]

        def work() -> None:
            client = PostmarkClient(key, root_api_url=url)
            (only,) = client.triggers.inboundrules.all()
            assert "removed" in only.delete()

        await asyncio.to_thread(work)
        assert (await server.inbound_rules.list()).total == 0


@needs("node")
async def test_opens_and_clicks_by_three_clients(house: House, url: str) -> None:
    key, body = house.server_key, "<a href='https://shop.example/a'>a</a>"
    async with ServerClient(key, retries=0, base_url=url) as server:
        sent = await server.outbound.send(mail(HtmlBody=body, TrackOpens=True, TrackLinks="HtmlOnly"))
        at_us = house.ctx.clock.now_us()
        await hits.record(house.ctx, [Hit(DeliveryId(1), link, at_us, "Mail/1.0") for link in (None, 0)])
        (opened,) = (await server.outbound.list_opens(tag="welcome")).items
        (clicked,) = (await server.outbound.list_clicks(recipient="ann@example.net")).items
        assert (opened.user_agent, opened.platform) == ("Mail/1.0", "Unknown")
        assert (clicked.original_link, clicked.click_location) == ("https://shop.example/a", "HTML")
    number = sent.message_id
    told = await javascript(
        url,
        {"server": key, "method": "getMessageOpens", "args": [{"count": 10}]},
        {"server": key, "method": "getMessageOpensForSingleMessage", "args": [number]},
        {"server": key, "method": "getMessageClicks", "args": [{"platform": "Mobile"}]},
        {"server": key, "method": "getMessageClicksForSingleMessage", "args": [number]},
    )
    assert [one["ok"]["TotalCount"] for one in told] == [1, 1, 0, 1]

    def work() -> None:
        client = PostmarkClient(key, root_api_url=url)
        assert [one.Recipient for one in client.messages.outbound.opens.all()] == ["ann@example.net"]
        assert client.messages.outbound.opens.get(number)["TotalCount"] == 1

    await asyncio.to_thread(work)
