"""From text to logical lines: directives, comments, continuations, here-documents, and where each stands."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile.heredocs import openers
from hooper_builder_dockerfile.instructions import Directives
from hooper_builder_dockerfile.lexer import LINE_LIMIT, Lexer
from hooper_builder_dockerfile.parser import parse


def texts(text):
    return [line.text for line in Lexer(text, "D").lines()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=a/b:1\nFROM x", {"syntax": "a/b:1"}),
        ("#syntax = a/b:1  \nFROM x", {"syntax": "a/b:1"}),
        ("#  SynTax=a/b:1\nFROM x", {"syntax": "a/b:1"}),
        ("  # syntax=x\nFROM x", {"syntax": "x"}),
        ("\ufeff# syntax=x\r\n# escape=`\r\nFROM x", {"syntax": "x", "escape": "`"}),
        ("#!/usr/bin/env docker\n# syntax=x\nFROM x", {"syntax": "x"}),
        ("# check=skip=A,B;error=true\nFROM x", {"check": "skip=A,B;error=true"}),
        ("# check=skip=A # why\n# escape=\\\nFROM x", {"check": "skip=A # why", "escape": "\\"}),
        ("# note\n# escape=`\nFROM x", {}),
        ("\n# escape=`\nFROM x", {}),
        ("# unknown=1\n# escape=`\nFROM x", {}),
        ("# syntax=\n# escape=`\nFROM x", {}),
        ("FROM x\n# escape=`", {}),
        ("// syntax=x\n", {}),
    ],
)
def test_directives_stand_at_the_top_alone(text, expected):
    assert Lexer(text, "D").directives == Directives(**expected)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("# escape=x\nFROM a", 1, "invalid escape token 'x'"),
        ("# escape=\\\\\nFROM a", 1, "invalid escape token"),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive"),
        ("# syntax=a\n# Syntax=b\nFROM a", 2, "only one syntax parser directive"),
        ("# check=skip=all\n# escape=`\n# check=x\nFROM a", 3, "only one check parser directive"),
    ],
)
def test_a_bad_directive_is_named(text, line, why):
    with pytest.raises(InvalidArgument) as caught:
        parse(text, "D")
    assert caught.value.what == f"D:{line}"
    assert f"dockerfile parse error on line {line}: " in caught.value.why
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x", ["FROM x"]),
        ("  FROM x  ", ["FROM x"]),
        ("FROM x\r\nRUN y\r\n", ["FROM x", "RUN y"]),
        ("\n\n# c\nFROM x\n   # c\n", ["FROM x"]),
        ("RUN a \\\n b", ["RUN a  b"]),
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a\\ \t\nb", ["RUN ab"]),
        ("RUN a\\\r\nb\r\n", ["RUN ab"]),
        ("RUN a\\\\\nUSER b", ["RUN a\\\\", "USER b"]),
        ("RUN a\\\n# c\n  # d\nb", ["RUN ab"]),
        ("RUN a\\\n\n\nb", ["RUN ab"]),
        ("RUN a\\\n#b\\\nc", ["RUN ac"]),
        ("RUN a # no comment", ["RUN a # no comment"]),
        ("RUN a\\\n  b # no comment\\\nc", ["RUN a  b # no commentc"]),
        ("RUN a\\", ["RUN a"]),
        ("RUN a \\\n\n\n", ["RUN a"]),
        ("RUN \\\na", ["RUN a"]),
        ("\\\nRUN a", ["RUN a"]),
        ("\\", []),
        ("RUN a`\nUSER b", ["RUN a`", "USER b"]),
        ("# escape=`\nRUN a`\n b", ["RUN a b"]),
        ("# escape=`\nCOPY x c:\\\nUSER b", ["COPY x c:\\", "USER b"]),
        ("USER é\u00a0", ["USER é"]),
        ("", []),
    ],
)
def test_lines_are_joined_and_comments_left_out(text, expected):
    assert texts(text) == expected


def test_every_instruction_knows_its_lines():
    text = "# c\n\nFROM a\nRUN b \\\n\n # c\n  d\nCOPY <<X <<Y /e/\nx\nX\ny\nY\n\nUSER u\n"
    recipe = parse(text, "sub/D")
    assert [(s.location.first, s.location.last) for s in recipe.instructions] == [(3, 3), (4, 7), (8, 12), (14, 14)]
    origin = recipe.instructions[1].location.origin()
    assert (origin.file, origin.first, origin.last) == ("sub/D", 4, 7)
    assert origin.text == "RUN b \\\n\n # c\n  d"
    assert recipe.instructions[1].writing.empty_lines == (5,)


def test_comments_directly_above_are_kept():
    recipe = parse("# syntax=x\n# one\n#two\nFROM a\n# far\n\nUSER b\n# far\n#\n# near\nUSER c")
    assert [step.writing.comments for step in recipe.instructions] == [("one", "two"), (), ("near",)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF", [("EOF", True, False, "")]),
        ("RUN <<-EOF", [("EOF", True, True, "")]),
        ("RUN << EOF", [("EOF", True, False, "")]),
        ("RUN <<  EOF  > out", [("EOF", True, False, "")]),
        ("RUN <<- EOF", [("EOF", True, True, "")]),
        ("RUN << -EOF", [("-EOF", True, False, "")]),
        ("RUN 3<<EOF", [("EOF", True, False, "3")]),
        ("RUN <<'EOF'", [("EOF", False, False, "")]),
        ('RUN <<"EOF"', [("EOF", False, False, "")]),
        ('RUN <<E"O"F', [("EOF", False, False, "")]),
        ("RUN <<'a b'", [("a b", False, False, "")]),
        (r"RUN <<a\'b", [("a'b", True, False, "")]),
        (r"RUN <<'a'\'b", [("a'b", False, False, "")]),
        ("RUN <<$EOF", [("$EOF", True, False, "")]),
        ("RUN <<file.txt sh -x", [("file.txt", True, False, "")]),
        ("RUN cat <<A 4<<-B > /x", [("A", True, False, ""), ("B", True, True, "4")]),
        ("RUN a && (cat <<A) <<B", [("A)", True, False, ""), ("B", True, False, "")]),
        ('RUN "<<EOF"', []),
        ("RUN '<<EOF'", []),
        ("RUN echo 'x <<EOF y'", []),
        ("RUN cat <<<word", []),
        ("RUN cat <<< word", []),
        ("RUN cat<<EOF", []),
        ("RUN echo $((1<<2))", []),
        (r"RUN \<<EOF", []),
        ("RUN <<", []),
        ("RUN <<-", []),
        ("RUN <<''", []),
        ("RUN <<EOF<x", []),
        ("RUN it's <<EOF", []),
        ('RUN say "x <<EOF', []),
    ],
)
def test_what_opens_a_document(text, expected):
    assert [(o.name, o.expand, o.strip_tabs, o.descriptor) for o in openers(text)] == expected


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("RUN <<E\nE", [""]),
        ("RUN <<E\na \\\n # b\n\nc\nE", ["a \\\n # b\n\nc\n"]),
        ("RUN <<E\n\ta\n\t E\nE", ["\ta\n\t E\n"]),
        ("RUN <<-E\n\t\ta\n \tb\n\tE", ["a\n \tb\n"]),
        ("RUN <<E\r\na\r\nE\r\n", ["a\r\n"]),
        ("COPY <<A <<B /d\nB\nA\nA\nB", ["B\n", "A\n"]),
        ("ADD <<A /d\nx\nA", ["x\n"]),
        ("ONBUILD RUN <<A\nx\nA", ["x\n"]),
        ("onbuild copy <<A /d\nx\nA", ["x\n"]),
        ("RUN --network=none <<A\nx\nA", ["x\n"]),
        ("RUN a \\\n <<A\nx\nA", ["x\n"]),
        ("RUN <<'a b'\nx\na b", ["x\n"]),
        ("USER <<A", []),
        ('RUN ["<<A"]', []),
    ],
)
def test_documents_follow_their_instruction(text, contents):
    lines = list(Lexer(f"{text}\nUSER z", "D").lines())
    assert [document.content for document in lines[0].heredocs] == contents
    assert lines[-1].text == "USER z"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM a\nRUN <<EOF\nx\n", 2, ("unterminated heredoc", "EOF alone")),
        ("FROM a\nRUN <<A <<B\nA\n", 2, ("unterminated heredoc", "B alone")),
        ("FROM a\nRUN <<E\n E\n", 2, ("unterminated heredoc",)),
        (f"FROM a\nLABEL a={'x' * 10_000_000}\n", 2, (f"greater than max allowed size of {LINE_LIMIT}", "COPY")),
        ("FROM a\nLABEL a=1" + "\\\n 22222222" * 200_000, 2, (f"max allowed size of {LINE_LIMIT}",)),
        (f"FROM a\nRUN <<E\n{'x' * 2_000_000}\nE\n", 3, (f"max allowed size of {LINE_LIMIT}",)),
        (f"FROM a\n# {'x' * 2_000_000}\nE\n", 2, (f"max allowed size of {LINE_LIMIT}",)),
        ("FROM a\nUSER b\0c", 2, ("null byte",)),
        ("FROM a\nRUN <<E\n\0\nE", 3, ("null byte",)),
        (b"FROM a\n\nUSER \xff\xfe", 3, ("not UTF-8",)),
        ("FROM a".encode("utf-16"), 1, ("not UTF-8",)),
        ("", 1, ("no instructions",)),
        ("# only\n# comments", 1, ("no instructions",)),
        ("\\", 1, ("no instructions",)),
    ],
)
def test_what_is_no_text_or_too_much_is_one_error(text, line, words):
    with pytest.raises(InvalidArgument) as caught:
        parse(text, "D")
    assert caught.value.what == f"D:{line}"
    assert all(word in str(caught.value) for word in words)
    assert len(str(caught.value)) < 3000


def test_many_lines_are_no_hardship():
    recipe = parse("# c\n" * 100_000 + "FROM a\n" + "RUN \\\n" + " x \\\n" * 100_000 + " y\n" + "USER u\n" * 2000)
    assert len(recipe.instructions) == 2002


def test_bytes_and_text_give_the_same():
    text = "\ufeffFROM a\nUSER größe\n"
    assert parse(text.encode()) == parse(text)
