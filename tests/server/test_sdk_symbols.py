"""The SDK's surface that this package stands on.

The SDK is pinned to one minor range; a name that moves in the next one fails here, by name, and nowhere else first.
"""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "django_mcp"

SYMBOLS = {
    "mcp.client.client": [
        "Client",
    ],
    "mcp.client.streamable_http": [
        "streamable_http_client",
    ],
    "mcp.server.caching": [
        "CacheHint",
    ],
    "mcp.server.connection": [
        "Connection",
    ],
    "mcp.server.context": [
        "ServerRequestContext",
    ],
    "mcp.server.elicitation": [
        "AcceptedElicitation",
        "CancelledElicitation",
        "DeclinedElicitation",
        "ElicitationResult",
        "elicit_with_validation",
    ],
    "mcp.server.lowlevel": [
        "NotificationOptions",
        "Server",
    ],
    "mcp.server.mcpserver": [
        "Context",
    ],
    "mcp.server.mcpserver.exceptions": [
        "InvalidSignature",
        "ResourceError",
        "ResourceNotFoundError",
        "ToolError",
    ],
    "mcp.server.mcpserver.resolve": [
        "Elicit",
        "ListRoots",
        "Resolve",
        "Sample",
        "build_resolver_plans",
        "find_resolved_parameters",
        "resolve_arguments",
    ],
    "mcp.server.mcpserver.resources.templates": [
        "DEFAULT_RESOURCE_SECURITY",
    ],
    "mcp.server.mcpserver.utilities.func_metadata": [
        "FuncMetadata",
        "func_metadata",
    ],
    "mcp.server.mcpserver.utilities.types": [
        "Audio",
        "Image",
    ],
    "mcp.server.models": [
        "InitializationOptions",
    ],
    "mcp.server.request_state": [
        "AESGCMRequestStateCodec",
        "RequestStateBoundary",
        "RequestStateSecurity",
    ],
    "mcp.server.runner": [
        "ServerRunner",
    ],
    "mcp.shared._httpx_utils": [
        "create_mcp_http_client",
    ],
    "mcp.shared.dispatcher": [
        "CallOptions",
        "Outbound",
    ],
    "mcp.shared.exceptions": [
        "MCPError",
        "NoBackChannelError",
    ],
    "mcp.shared.inbound": [
        "ERROR_CODE_HTTP_STATUS",
        "InboundLadderRejection",
        "MCP_NAME_HEADER",
        "MCP_PROTOCOL_VERSION_HEADER",
        "NAME_BEARING_METHODS",
        "classify_inbound_request",
        "encode_header_value",
        "find_invalid_x_mcp_header",
        "mcp_param_headers",
        "unsupported_protocol_version_rejection",
        "validate_mcp_param_headers",
        "x_mcp_header_map",
    ],
    "mcp.shared.message": [
        "ServerMessageMetadata",
    ],
    "mcp.shared.subscriptions": [
        "SUBSCRIPTION_ID_META_KEY",
    ],
    "mcp.shared.tool_name_validation": [
        "validate_tool_name",
    ],
    "mcp.shared.transport_context": [
        "TransportContext",
    ],
    "mcp.shared.uri_template": [
        "InvalidUriTemplate",
        "UriTemplate",
    ],
    "mcp_types": [
        "Annotations",
        "AudioContent",
        "BlobResourceContents",
        "CLIENT_CAPABILITIES_META_KEY",
        "CLIENT_INFO_META_KEY",
        "CallToolRequestParams",
        "CallToolResult",
        "ClientCapabilities",
        "CompleteRequestParams",
        "CompleteResult",
        "Completion",
        "ContentBlock",
        "CreateMessageRequest",
        "CreateMessageResult",
        "CreateMessageResultWithTools",
        "ElicitRequest",
        "ElicitResult",
        "EmbeddedResource",
        "EmptyResult",
        "ErrorData",
        "GetPromptRequestParams",
        "GetPromptResult",
        "HEADER_MISMATCH",
        "INTERNAL_ERROR",
        "INVALID_PARAMS",
        "INVALID_REQUEST",
        "Icon",
        "ImageContent",
        "Implementation",
        "InputRequiredResult",
        "LOG_LEVEL_META_KEY",
        "ListPromptsResult",
        "ListResourceTemplatesResult",
        "ListResourcesResult",
        "ListRootsRequest",
        "ListRootsResult",
        "ListToolsResult",
        "LoggingLevel",
        "MISSING_REQUIRED_CLIENT_CAPABILITY",
        "PARSE_ERROR",
        "PROTOCOL_VERSION_META_KEY",
        "PaginatedRequestParams",
        "ProgressToken",
        "Prompt",
        "PromptArgument",
        "PromptMessage",
        "PromptReference",
        "ReadResourceRequestParams",
        "ReadResourceResult",
        "RequestId",
        "RequestParams",
        "Resource",
        "ResourceTemplate",
        "Result",
        "SetLevelRequestParams",
        "SubscribeRequestParams",
        "SubscriptionFilter",
        "SubscriptionsListenRequestParams",
        "SubscriptionsListenResult",
        "TextContent",
        "TextResourceContents",
        "Tool",
        "ToolAnnotations",
        "UNSUPPORTED_PROTOCOL_VERSION",
        "UnsubscribeRequestParams",
    ],
    "mcp_types.methods": [
        "serialize_server_result",
    ],
    "mcp_types.version": [
        "HANDSHAKE_PROTOCOL_VERSIONS",
        "LATEST_HANDSHAKE_VERSION",
        "LATEST_MODERN_VERSION",
        "MODERN_PROTOCOL_VERSIONS",
        "is_version_at_least",
    ],
}


def imported_symbols() -> dict[str, set[str]]:
    """Return what the package imports from the SDK, by module."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in {"mcp", "mcp_types"}:
                found.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return found


def test_the_list_names_exactly_what_the_package_imports() -> None:
    assert {module: sorted(names) for module, names in imported_symbols().items()} == {
        module: sorted(names) for module, names in SYMBOLS.items()
    }


@pytest.mark.parametrize("module", sorted(SYMBOLS))
def test_every_symbol_is_where_it_is_imported_from(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in SYMBOLS[module] if not hasattr(imported, name)] == []


def test_only_the_server_package_and_the_clients_import_the_sdks_server() -> None:
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(
            isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mcp.server")
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert users <= {"server", "testing", "client"}
