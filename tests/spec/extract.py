"""Find the normative requirements of the MCP specification in its own pages.

Stands beside the tests and knows nothing of Django, the server or the tables: it reads the Markdown of a
checkout (or an exported folder) of `modelcontextprotocol/modelcontextprotocol` and says which sentences carry an
RFC 2119 word in capitals. `python -m tests.spec.extract FOLDER` prints one requirement a line, tab separated.

What counts as one requirement is a sentence of a paragraph, list item or table row. Several such words in one
sentence are one requirement. A sentence that opens a list ("clients MUST:") takes with it the items that have no
such word of their own, so that a change to one of them is noticed.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: The pages that bind a server, of each revision, in the order of reading. Absent: pages on client features, the
#: generated schema reference, change logs and introductions.
PAGES = {
    "2025-11-25": (
        "basic/index",
        "basic/lifecycle",
        "basic/transports",
        "basic/authorization",
        "basic/utilities/cancellation",
        "basic/utilities/ping",
        "basic/utilities/progress",
        "basic/utilities/tasks",
        "server/index",
        "server/prompts",
        "server/resources",
        "server/tools",
        "server/utilities/completion",
        "server/utilities/logging",
        "server/utilities/pagination",
    ),
    "2026-07-28": (
        "basic/index",
        "basic/versioning",
        "basic/patterns/index",
        "basic/patterns/cancellation",
        "basic/patterns/mrtr",
        "basic/patterns/progress",
        "basic/patterns/subscriptions",
        "basic/transports/index",
        "basic/transports/stdio",
        "basic/transports/streamable-http",
        "basic/authorization/index",
        "basic/authorization/authorization-server-discovery",
        "basic/authorization/client-registration",
        "basic/authorization/security-considerations",
        "server/index",
        "server/discover",
        "server/prompts",
        "server/resources",
        "server/tools",
        "server/utilities/caching",
        "server/utilities/completion",
        "server/utilities/logging",
        "server/utilities/pagination",
    ),
}

KEYWORD = re.compile(r"\b(?:MUST|SHALL|REQUIRED)\b")

_UNREAD = re.compile(
    r"\A---\n.*?^---$"  # front matter
    r"|^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,}).*?^[ \t]*(?P=fence)[ \t]*$"
    r"|\{/\*.*?\*/\}|<!--.*?-->",
    re.DOTALL | re.MULTILINE,
)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*\)|\[[^\[\]]*\])")
_REFERENCE = re.compile(r"^[ \t]*\[[^\[\]]+\]:[ \t]*\S+[ \t]*$", re.MULTILINE)
_ITEM = re.compile(r"(?:[-*+]|\d+[.)])\s+")
_OPENS_BLOCK = re.compile(r"\s*(?:[-*+]\s|\d+[.)]\s|\||#{1,6}\s)")
_BETWEEN_SENTENCES = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<=[.!?])[)*_\"]*\s+(?=[A-Z`*_(\"\[])")
_MARKUP = re.compile(r"[*`|\\]|(?<!\S)>(?!\S)|(?<!\w)_|_(?!\w)|^#{1,6}\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One normative sentence: where it stands, and a fingerprint of what it says."""

    revision: str
    page: str
    number: int
    fingerprint: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A paragraph, list item (without its mark), table row or heading, on one line."""

    indent: int
    is_item: bool
    text: str


def extract(folder: Path) -> Iterator[Requirement]:
    """Yield every requirement of every page in `PAGES`; raise `FileNotFoundError` when a page is missing."""
    for revision, pages in PAGES.items():
        for page in pages:
            yield from extract_page(folder, revision, page)


def extract_page(folder: Path, revision: str, page: str) -> Iterator[Requirement]:
    """Yield the requirements of one page, numbered from 1."""
    text = (folder / "docs" / "specification" / revision / f"{page}.mdx").read_text(encoding="utf-8")
    for number, sentence in enumerate(find_requirements(text), start=1):
        yield Requirement(
            revision=revision, page=page, number=number, fingerprint=fingerprint(sentence), sentence=sentence
        )


def find_requirements(text: str) -> Iterator[str]:
    """Yield the normative sentences of a page, without markup, in the order they stand."""
    blocks = list(_split_blocks(text))
    for position, block in enumerate(blocks):
        sentences = _BETWEEN_SENTENCES.split(block.text)
        for sentence in sentences:
            if not KEYWORD.search(sentence):
                continue
            if sentence is sentences[-1] and sentence.rstrip("*_").endswith(":"):
                sentence = " ".join([sentence, *_plain_items(block, blocks[position + 1 :])])
            yield normalise(sentence)


def normalise(sentence: str) -> str:
    """Return the words of a sentence alone: no emphasis, code marks or line breaks."""
    return " ".join(_MARKUP.sub("", sentence).split())


def fingerprint(sentence: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a normalised sentence."""
    return hashlib.sha256(sentence.encode()).hexdigest()[:16]


def _split_blocks(text: str) -> Iterator[_Block]:
    """Yield each paragraph, list item, table row and heading."""
    text = _TAG.sub("", _REFERENCE.sub("", _UNREAD.sub("\n", text)))
    while (unlinked := _LINK.sub(r"\1", text)) != text:  # an image inside a link takes two turns
        text = unlinked
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if lines and (not line.strip() or _OPENS_BLOCK.match(line)):
            indent = len(lines[0]) - len(lines[0].lstrip())
            words = " ".join(" ".join(lines).split())
            mark = _ITEM.match(words)
            yield _Block(indent=indent, is_item=mark is not None, text=words[mark.end() if mark else 0 :])
            lines = []
        if line.strip():
            lines.append(line)


def _plain_items(opener: _Block, following: list[_Block]) -> Iterator[str]:
    """Yield the texts without a keyword in the list that `opener` opens."""
    for block in following:
        if not block.is_item or block.indent < opener.indent + opener.is_item:
            return
        if not KEYWORD.search(block.text):
            yield block.text


def main(arguments: list[str]) -> int:
    """Print the requirements of the checkout named by the only argument."""
    if len(arguments) != 1:
        print("usage: python -m tests.spec.extract FOLDER", file=sys.stderr)
        return 2
    for row in extract(Path(arguments[0])):
        print(row.revision, row.page, row.number, row.fingerprint, sep="\t")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
