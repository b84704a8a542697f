"""What the official conformance suite asks of a server, written with the decorators of this project."""

import asyncio
import base64
import json
from enum import Enum
from typing import Annotated, Any, Literal

from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    InputRequiredResult,
    ListRootsResult,
    PromptMessage,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from django_mcp import (
    Audio,
    Context,
    Elicit,
    ElicitationResult,
    Image,
    ListRoots,
    ParamHeader,
    Resolve,
    Sample,
    ToolError,
    completion,
    notify,
    prompt,
    resource,
    tool,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=")
PAUSE_SECONDS = 0.05


def text_resource(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def sampling(text: str, max_tokens: int) -> Sample:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return Sample([message], max_tokens=max_tokens)


def reply_text(reply: CreateMessageResult) -> str:
    return getattr(reply.content, "text", "")


# Content of every kind.


@tool
def test_simple_text() -> str:
    """Return one text."""
    return "This is a simple text response for testing."


@tool
def test_image_content() -> Image:
    """Return one image."""
    return Image(data=PNG, format="png")


@tool
def test_audio_content() -> Audio:
    """Return one sound."""
    return Audio(data=WAV, format="wav")


@tool
def test_embedded_resource() -> EmbeddedResource:
    """Return one embedded resource."""
    return text_resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")


@tool(structured=False)
def test_multiple_content_types() -> list[Any]:
    """Return text, an image and a resource."""
    data = text_resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return ["Multiple content types test:", Image(data=PNG, format="png"), data]


@tool
def test_error_handling() -> str:
    """Fail on purpose."""
    raise ToolError("This tool intentionally returns an error for testing")


# What is sent while a call runs.


@tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for done in (0, 50, 100):
        await ctx.aprogress(done, 100)
        await asyncio.sleep(PAUSE_SECONDS)
    return "done"


@tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Log three messages."""
    await ctx.ainfo("Tool execution started")
    await asyncio.sleep(PAUSE_SECONDS)
    await ctx.ainfo("Tool processing data")
    await asyncio.sleep(PAUSE_SECONDS)
    await ctx.ainfo("Tool execution completed")
    return "logged"


@tool
async def test_logging_tool(ctx: Context) -> str:
    """Log a message that only those get who asked for it."""
    await ctx.ainfo("not asked for")
    return "logged"


@tool
async def test_reconnection(ctx: Context) -> str:
    """Close the stream in the middle of the call and go on."""
    await ctx.aclose_stream()
    await asyncio.sleep(4 * PAUSE_SECONDS)
    return "Reconnection test completed"


# Questions in the middle of a body: the handshake era.


class Person(BaseModel):
    username: str
    email: str


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


def titled(*names: str) -> list[dict[str, str]]:
    return [{"const": name, "title": name.title()} for name in names]


class Choices(BaseModel):
    untitled_single: Annotated[
        str, Field(json_schema_extra={"enum": ["option1", "option2", "option3"]}), Field(alias="untitledSingle")
    ]
    titled_single: Annotated[
        str, Field(alias="titledSingle", json_schema_extra={"oneOf": titled("value1", "value2", "value3")})
    ]
    legacy_enum: Annotated[
        str,
        Field(
            alias="legacyEnum",
            json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        ),
    ]
    untitled_multi: Annotated[
        list[str],
        Field(
            alias="untitledMulti",
            json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        ),
    ]
    titled_multi: Annotated[
        list[str],
        Field(alias="titledMulti", json_schema_extra={"items": {"anyOf": titled("value1", "value2", "value3")}}),
    ]


def outcome_text(outcome: ElicitationResult[Any]) -> str:
    data = getattr(outcome, "data", None)
    content = data.model_dump(mode="json") if isinstance(data, BaseModel) else None
    return f"action={outcome.action}, content={json.dumps(content)}"


@tool
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Ask the client's model."""
    return f"LLM response: {reply_text(await ctx.asample(sampling(prompt, 100)))}"


@tool
async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user for a name and an address."""
    return f"User response: {outcome_text(await ctx.aelicit(message, Person))}"


@tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask the user with defaults for everything."""
    return f"Elicitation completed: {outcome_text(await ctx.aelicit('Check these values', Defaults))}"


@tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask the user to choose, in every form there is."""
    return f"Elicitation completed: {outcome_text(await ctx.aelicit('Choose', Choices))}"


# Schemas and headers.


ADDRESS_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@tool(input_schema=ADDRESS_SCHEMA)
def json_schema_2020_12_tool(**arguments: Any) -> str:
    """Take arguments by a schema of its own."""
    return json.dumps(arguments)


@tool
def test_x_mcp_header(region: Annotated[str, ParamHeader("Region")] = "") -> str:  # noqa: PT028
    """Take an argument that a proxy can route by."""
    return f"region: {region}"


@tool
async def test_missing_capability(ctx: Context) -> str:
    """Refuse clients that offer no sampling."""
    capabilities = ctx.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "sampling is required",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return "sampling is there"


@tool
async def test_streaming_elicitation() -> str:
    """Answer without asking."""
    return "nothing to ask"


@tool
def test_trigger_tool_change() -> str:
    """Tell everybody that the tools changed."""
    notify.tools_changed()
    return "told"


@tool
def test_trigger_prompt_change() -> str:
    """Tell everybody that the prompts changed."""
    notify.prompts_changed()
    return "told"


# Questions as parameters: both eras.


class Name(BaseModel):
    name: str


class Confirmation(BaseModel):
    ok: bool


class Colour(BaseModel):
    color: str


class Background(BaseModel):
    context: str


def user_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def capital_question() -> Sample:
    return sampling("What is the capital of France?", 100)


def greeting() -> Sample:
    return sampling("Generate a greeting", 50)


def client_roots() -> ListRoots:
    return ListRoots()


def confirm() -> Elicit[Confirmation]:
    return Elicit("Please confirm", Confirmation)


def step1() -> Elicit[Name]:
    return Elicit("Step 1: What is your name?", Name)


def step2(first: Annotated[Name, Resolve(step1)]) -> Elicit[Colour]:
    return Elicit("Step 2: What is your favorite color?", Colour)


def user_context() -> Elicit[Background]:
    return Elicit("What context should the prompt use?", Background)


def declared_question(ctx: Context) -> Any:
    """Ask what the client can answer."""
    capabilities = ctx.client_capabilities
    if capabilities is not None and capabilities.elicitation is not None:
        return Elicit("What is your name?", Name)
    return sampling("What is your name?", 50)


@tool
def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask the user's name, with the rounds written by hand and no state between them."""
    answer = (ctx.input_responses or {}).get("user_name")
    if isinstance(answer, ElicitResult) and answer.action == "accept" and answer.content and "name" in answer.content:
        return f"Hello, {answer.content['name']}!"
    schema = Name.model_json_schema()
    question = ElicitRequest(params=ElicitRequestFormParams(message="What is your name?", requested_schema=schema))
    return InputRequiredResult(input_requests={"user_name": question})


@tool
def test_input_required_result_sampling(reply: Annotated[CreateMessageResult, Resolve(capital_question)]) -> str:
    """Ask the client's model before running."""
    return f"The model says: {reply_text(reply)}"


@tool
def test_input_required_result_list_roots(roots: Annotated[ListRootsResult, Resolve(client_roots)]) -> str:
    """Ask for the client's roots before running."""
    return f"{len(roots.roots)} roots"


@tool
def test_input_required_result_request_state(answer: Annotated[Confirmation, Resolve(confirm)]) -> str:
    """Carry state between two rounds."""
    return f"state-ok: {answer.ok}"


@tool
def test_input_required_result_multiple_inputs(
    answer: Annotated[Name, Resolve(user_name)],
    words: Annotated[CreateMessageResult, Resolve(greeting)],
    roots: Annotated[ListRootsResult, Resolve(client_roots)],
) -> str:
    """Ask three things in one round."""
    return f"{reply_text(words)} {answer.name}, {len(roots.roots)} roots"


@tool
def test_input_required_result_multi_round(
    first: Annotated[Name, Resolve(step1)], second: Annotated[Colour, Resolve(step2)]
) -> str:
    """Ask twice, the second question after the first answer."""
    return f"{first.name} likes {second.color}."


@tool
def test_input_required_result_tampered_state(answer: Annotated[Confirmation, Resolve(confirm)]) -> str:
    """Carry state that cannot be altered."""
    return f"confirmed: {answer.ok}"


@tool
def test_input_required_result_capabilities(answer: Annotated[Any, Resolve(declared_question)]) -> str:
    """Ask only what the client can answer."""
    return f"answered: {answer}"


# Resources.


@resource("test://static-text", name="static-text", mime_type="text/plain")
def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@resource("test://static-binary", name="static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image that never changes."""
    return PNG


@resource("test://watched-resource", name="watched-resource", mime_type="text/plain")
def watched_resource() -> str:
    """A text that can be watched."""
    return "watched"


@resource("test://template/{id}/data", name="template", mime_type="application/json")
def template(id: str) -> dict[str, Any]:  # noqa: A002 - the variable of the template
    """Data by number."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


# Prompts.


@prompt
def test_simple_prompt() -> str:
    """Say one thing."""
    return "This is a simple prompt for testing."


@prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Say what was given."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@completion("arg1", prompt="test_prompt_with_arguments")
def complete_arg1(value: str) -> list[str]:
    return [word for word in ("paris", "park", "party") if word.startswith(value)]


@prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:  # noqa: N803 - the name the suite sends
    """Show a resource."""
    return [
        text_resource(resourceUri, "text/plain", "Embedded resource content for testing."),
        "Please process the embedded resource above.",
    ]


@prompt
def test_prompt_with_image() -> list[Any]:
    """Show an image."""
    return [Image(data=PNG, format="png"), "Please analyze the image above."]


@prompt
def test_input_required_result_prompt(background: Annotated[Background, Resolve(user_context)]) -> PromptMessage:
    """Ask for the context of the prompt."""
    return PromptMessage(role="user", content=TextContent(type="text", text=f"Context: {background.context}"))


class Season(Enum):
    SPRING = "spring"
    AUTUMN = "autumn"


@tool
def season_of(season: Season) -> str:
    """Name a season."""
    return season.value
