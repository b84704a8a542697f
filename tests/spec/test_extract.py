"""The extractor on small pages: what is one requirement, and what is none."""

from tests.spec.extract import find_requirements, fingerprint


def test_each_normative_sentence_is_one_requirement() -> None:
    page = "Servers **MUST** listen. Clients may talk. They\n**MUST NOT** shout and **MUST** pause.\n"
    assert list(find_requirements(page)) == ["Servers MUST listen.", "They MUST NOT shout and MUST pause."]


def test_each_list_item_and_table_row_stands_alone() -> None:
    page = "- It **MUST** be `a`\n- It MUST be\n  [b](https://b.example/)\n\n| x | MUST be c |\n| y | d |\n"
    assert list(find_requirements(page)) == ["It MUST be a", "It MUST be b", "x MUST be c"]


def test_a_sentence_that_opens_a_list_takes_the_items_without_a_keyword_along() -> None:
    page = "Servers **MUST**:\n\n- Listen\n- Answer, and **MUST** be brief\n\nAfterwards.\n"
    assert list(find_requirements(page)) == ["Servers MUST: Listen", "Answer, and MUST be brief"]


def test_an_item_that_opens_a_list_leaves_its_neighbours_alone() -> None:
    assert list(find_requirements("1. Servers MUST:\n   - Listen\n2. Talk\n")) == ["Servers MUST: Listen"]


def test_front_matter_code_and_lower_case_words_are_no_requirements() -> None:
    page = "---\ntitle: MUST\n---\n\n  ```text\n  It MUST be\n  ```\n\nIt must be. `INPUT_REQUIRED` is a name.\n"
    assert list(find_requirements(page)) == []


def test_an_abbreviation_does_not_end_a_sentence() -> None:
    page = "It MUST answer (e.g. `400`, i.e. Bad Request) at once.\n"
    assert list(find_requirements(page)) == ["It MUST answer (e.g. 400, i.e. Bad Request) at once."]


def test_markup_and_line_breaks_leave_the_fingerprint_alone() -> None:
    (plain,), (marked,) = find_requirements("It MUST be so.\n"), find_requirements("> It **MUST**\n> be _so_.\n")
    assert fingerprint(plain) == fingerprint(marked)
    assert len(fingerprint(plain)) == 16
