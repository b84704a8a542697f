"""The settings: defaults, what is refused and how, and the reset."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from pytest_django import Settings

from django_mcp.conf import SETTINGS, MCPSettings, markdown_table, mcp_settings


def test_every_setting_has_its_default_and_an_annotation() -> None:
    annotated = [name for name in MCPSettings.__annotations__ if name.isupper()]
    assert annotated == [setting.name for setting in SETTINGS]
    assert mcp_settings.ACCESS == "required"
    assert mcp_settings.MAX_BODY_BYTES == 4_194_304
    assert mcp_settings.STORES["default"]["BACKEND"].endswith("DatabaseStore")


def test_the_server_is_named_for_the_project(settings: Settings) -> None:
    settings.ROOT_URLCONF = "travel_desk.urls"
    assert mcp_settings.SERVER_NAME == "travel_desk"
    settings.DJANGO_MCP = {"SERVER_NAME": "desk"}
    assert mcp_settings.SERVER_NAME == "desk"


def test_a_changed_setting_is_read_anew_and_comes_back() -> None:
    assert mcp_settings.PAGE_SIZE == 100
    with override_settings(DJANGO_MCP={"PAGE_SIZE": 7}):
        assert mcp_settings.PAGE_SIZE == 7
    assert mcp_settings.PAGE_SIZE == 100


def test_an_unknown_key_is_refused_with_the_known_ones(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_BODY_BYTE": 1}
    with pytest.raises(ImproperlyConfigured) as caught:
        _ = mcp_settings.ACCESS
    assert str(caught.value).startswith(
        "DJANGO_MCP has the unknown key 'MAX_BODY_BYTE'. Did you mean 'MAX_BODY_BYTES'? The known keys are: SERVER_NAM"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ACCESS", "open", "it must be 'required' or 'public'"),
        ("MAX_BODY_BYTES", 0, "it must be a whole number, 1 or more"),
        ("MAX_BODY_BYTES", True, "it must be a whole number, 1 or more"),
        ("MAX_BODY_BYTES", "4194304", "it must be a whole number, 1 or more"),
        ("POLL_SECONDS", 0, "it must be a number of seconds, 0.05 or more"),
        ("POLL_SECONDS", float("inf"), "it must be a number of seconds, 0.05 or more"),
        ("SERVER_NAME", 'a"b', "it must be 1 to 100 letters"),
        ("SERVER_NAME", "", "it must be 1 to 100 letters"),
        ("KEY_PREFIX", "a:b", "it must be 1 to 50 letters"),
        ("INSTRUCTIONS", None, "it must be a string"),
        ("AUTHENTICATION", "a.B", "it must be a list or tuple of dotted paths"),
        ("AUTHENTICATION", ["NotDotted"], "it must be the dotted path of a Python object"),
        ("TENANT", len, "it must be the dotted path of a Python object"),
        ("TRUSTED_PROXIES", ["10.0.0.1/8"], "has host bits set"),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "it must be a list or tuple of IP networks"),
        ("STORES", {}, "with the alias 'default'"),
        ("STORES", {"default": {}}, "'default' lacks its 'BACKEND'"),
        ("STORES", {"default": {"BACKEND": "a.B", "LOCATION": 1}}, "takes 'BACKEND' and 'OPTIONS'"),
        *(
            ("ALLOWED_ORIGINS", [origin], "it must be a list of origins like 'https://app.example.com'")
            for origin in (
                "app.example.com",
                "https://app.example.com/",
                "https://*.example.com",
                "https://a@b.example",
                "https://app.example.com?",
                "https://app.example.com:port",
                "null",
                7,
            )
        ),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_value(settings: Settings, key: str, value: Any, message: str) -> None:
    settings.DJANGO_MCP = {key: value}
    with pytest.raises(ImproperlyConfigured) as caught:
        _ = mcp_settings.PAGE_SIZE
    assert str(caught.value).startswith(f"DJANGO_MCP[{key!r}] is {value!r}; it must be ")
    assert message in str(caught.value)


def test_a_value_that_is_no_dictionary_is_refused(settings: Settings) -> None:
    settings.DJANGO_MCP = ["ACCESS"]
    with pytest.raises(ImproperlyConfigured, match=r"settings.DJANGO_MCP is \['ACCESS'\]; it must be a dictionary"):
        _ = mcp_settings.ACCESS


def test_origins_and_networks_are_kept_as_they_are_compared(settings: Settings) -> None:
    settings.DJANGO_MCP = {
        "ALLOWED_ORIGINS": ["HTTPS://App.Example.com:443", "http://[::1]:6274", "*"],
        "TRUSTED_PROXIES": ["10.0.0.0/8", "::1"],
    }
    assert mcp_settings.ALLOWED_ORIGINS == ("https://app.example.com", "http://[::1]:6274", "*")
    assert [str(network) for network in mcp_settings.TRUSTED_PROXIES] == ["10.0.0.0/8", "::1/128"]


def test_what_a_path_names_is_imported_when_asked_for(settings: Settings) -> None:
    settings.DJANGO_MCP = {"TENANT": "os.path.basename", "AROUND_CALL": ["contextlib.nullcontext", "os.path.nothing"]}
    assert mcp_settings.imported("TENANT")("a/b") == "b"
    with pytest.raises(ImproperlyConfigured, match=r"DJANGO_MCP\['AROUND_CALL'\] names 'os.path.nothing'"):
        mcp_settings.imported("AROUND_CALL")
    settings.DJANGO_MCP = {}
    assert mcp_settings.imported("TENANT") is None
    assert mcp_settings.imported("AROUND_CALL") == ()


def test_there_is_no_attribute_beside_the_settings() -> None:
    with pytest.raises(AttributeError, match="There is no setting 'MAX_BYTES'"):
        _ = mcp_settings.MAX_BYTES


def test_the_table_has_a_row_for_each_setting() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == len(SETTINGS) + 2
    assert lines[0] == "| key | default | meaning |"
    assert lines[2].startswith("| `SERVER_NAME` | the project's package | Name of the server")
    assert "| `MAX_ROWS` | `500` | Rows of a queryset that a tool returns. |" in lines
    assert all(setting.help.endswith(".") for setting in SETTINGS)
