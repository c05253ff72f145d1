"""What `generate` promises: labels that Python confirms, minimal bodies, measured levels, splits, purity, caps."""

import ast
import collections
import copy
import sys

import pytest

from bitzero.generator import programs
from bitzero.generator.programs import Counts, as_asked, generate
from bitzero.generator.templates import BUILTINS
from bitzero.sandbox.values import canonical, read
from bitzero.tasks import alpha, levels
from bitzero.tasks.trivial import CONSTANTS

LEVELS = range(levels.NUM_LEVELS)


def function(code):
    space = {"__builtins__": BUILTINS}
    exec(compile(code, "<program>", "exec"), space)
    return space["f"]


def args(text):
    """Argument values of an input text, each read from its canonical text."""
    return list(read(f"({text},)" if "," not in text else f"({text})")) if is_one(text) else list(read(f"({text})"))


def is_one(text):
    return len(ast.parse(f"f({text})").body[0].value.args) == 1


def output(code, text):
    values = [read(text)] if is_one(text) else args(text)
    return canonical(function(code)(*values))


@pytest.fixture(scope="module", params=LEVELS, ids=lambda level: f"L{level}")
def level_programs(request):
    return [generate(5, 1, index, request.param) for index in range(40)]


def test_python_itself_gives_the_same_outputs(level_programs):
    for program in level_programs:
        assert tuple(output(program.code, text) for text in program.inputs) == program.outputs


def test_the_code_is_as_ast_unparse_prints_it(level_programs):
    for program in level_programs:
        assert ast.unparse(ast.parse(program.code)) == program.code


def test_hash_and_split_are_those_of_the_canonical_source(level_programs):
    for program in level_programs:
        assert program.hash == alpha.structural_hash(program.code)
        assert program.split == alpha.split_of(program.code) == "train"


def test_pairs_are_distinct_and_tell_something(level_programs):
    for program in level_programs:
        assert len(set(program.inputs)) == len(program.inputs) == len(program.outputs) == len(program.traces) == 6
        assert len(set(program.outputs)) > 1


def test_values_stay_small(level_programs):
    for program in level_programs:
        assert max(map(len, program.outputs)) <= (24 if program.level < 4 else 40)


def test_every_argument_is_used(level_programs):
    for program in level_programs:
        definition = ast.parse(program.code).body[-1]
        names = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
        assert {arg.arg for arg in definition.args.args} <= names


def deletions(code):
    """The program without each one of its statements that may be left out."""
    tree = ast.parse(code)
    places = [
        (node, field, i)
        for node in ast.walk(tree.body[-1])
        for field in ("body", "orelse")
        for i in range(len(getattr(node, field, None) or []) if isinstance(getattr(node, field, None), list) else 0)
    ]
    for k in range(len(places)):
        other = copy.deepcopy(tree)
        found = [
            (node, field, i)
            for node in ast.walk(other.body[-1])
            for field in ("body", "orelse")
            for i in range(len(getattr(node, field, None) or []) if isinstance(getattr(node, field, None), list) else 0)
        ]
        node, field, i = found[k]
        if isinstance(getattr(node, field)[i], ast.Return) and node is other.body[-1]:
            continue
        del getattr(node, field)[i]
        if field == "body" and not node.body:
            node.body = [ast.Pass()]
        yield ast.unparse(other)


def test_no_statement_can_be_left_out(level_programs):
    for program in level_programs:
        if "while" in program.code:
            continue  # without its step a loop does not end
        for shorter in deletions(program.code):
            try:
                same = [output(shorter, text) for text in program.inputs] == list(program.outputs)
            except (NameError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
                same = False
            except Exception as error:  # a result without canonical text, as None
                same = type(error).__name__ not in ("Unsupported", "RecursionError")
            assert not same, f"{program.code}\ncan be\n{shorter}"


class Watch:
    """Changes of variables as `sys.settrace` sees them: an independent account of what a trace lists."""

    def __init__(self, code):
        self.writes = {}  # line → names that the statement there changes
        self.loops = {}  # line of a `for` → first line of its body
        first = ast.parse(code).body[-1]
        for node in ast.walk(first):
            names = []
            match node:
                case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
                    names = [base(target)]
                case ast.Delete(targets=[target]):
                    names = [base(target)]
                case ast.Expr(value=ast.Call(func=ast.Attribute(value=target))):
                    names = [base(target)]
                case ast.For(target=target, body=body):
                    names = [item.id for item in ast.walk(target) if isinstance(item, ast.Name)]
                    self.loops[node.lineno] = body[0].lineno
            if names:
                self.writes[node.lineno] = names
        self.events, self.line = [], None

    def __call__(self, frame, event, _):
        if frame.f_code.co_name != "f":
            return None
        if event == "line" and frame.f_lineno == self.line:
            return self  # since Python 3.12 (PEP 709) each turn of a comprehension reports its line again
        if event in ("line", "return") and self.line in self.writes:
            if self.line not in self.loops or (event == "line" and frame.f_lineno == self.loops[self.line]):
                for name in self.writes[self.line]:
                    self.events.append(f"{self.line - 1}:{name}={canonical(frame.f_locals[name])}")
        self.line = frame.f_lineno if event == "line" else None
        return self


def base(target):
    while isinstance(target, ast.Subscript):
        target = target.value
    return target.id


def test_traces_agree_with_an_independent_account(level_programs):
    for program in level_programs:
        for text, trace in zip(program.inputs, program.traces, strict=True):
            call = function(program.code)
            values = [read(text)] if is_one(text) else args(text)
            watch = Watch(program.code)
            before = sys.gettrace()
            sys.settrace(watch)
            try:
                call(*values)
            finally:
                sys.settrace(before)
            changes = [item for item in split_trace(trace) if "=" in item and item[0].isdigit() and ":" in item]
            assert changes == watch.events, program.code


def split_trace(trace):
    """Items of a trace; the grammar's strings hold no semicolon."""
    return trace.split(";") if trace else []


def test_the_trace_of_one_expression_is_the_values_of_its_parts_in_order():
    seen = 0
    for program in (generate(5, 2, index, 0) for index in range(200)):
        tree = ast.parse(program.code).body[0]
        inside = list(ast.walk(tree.body[0].value))
        if any(isinstance(node, ast.List | ast.BoolOp) for node in inside):
            continue  # a display in a template is no part of its own; `and` leaves parts out
        parts = [node for node in postorder(tree.body[0].value) if is_part(node)]
        for text, trace in zip(program.inputs, program.traces, strict=True):
            values = [read(text)] if is_one(text) else args(text)
            names = dict(zip((arg.arg for arg in tree.args.args), values, strict=True))
            expected = [canonical(eval(ast.unparse(part), {**BUILTINS, **names})) for part in parts]
            assert split_trace(trace) == expected
            seen += len(expected)
    assert seen > 200


def postorder(node):
    """Proper sub-expressions, as they are evaluated."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from postorder(child)
            yield child


def is_part(node):
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
    return not negative and not isinstance(node, ast.Constant | ast.Name | ast.Slice | ast.Attribute)


def test_the_level_is_what_was_asked_for(level_programs):
    assert len({program.level for program in level_programs}) == 1


ABSENT = {
    0: (ast.Assign, ast.AugAssign, ast.For, ast.While, ast.If, ast.IfExp, ast.comprehension, ast.Lambda),
    1: (ast.For, ast.While, ast.If, ast.IfExp, ast.comprehension, ast.Lambda),
    2: (ast.For, ast.While, ast.Lambda, ast.JoinedStr),
    3: (ast.While, ast.If, ast.Lambda, ast.JoinedStr),
    4: (ast.While,),
    5: (),
}
PRESENT = {2: (ast.If, ast.comprehension, ast.Assign), 3: (ast.For,), 4: (ast.For, ast.If), 5: (ast.For, ast.While)}


def test_a_level_holds_the_structure_it_names(level_programs):
    level = level_programs[0].level
    nodes_of_programs = [{type(node) for node in ast.walk(ast.parse(program.code))} for program in level_programs]
    assert not [node_type for node_type in ABSENT[level] if any(node_type in nodes for nodes in nodes_of_programs)]
    for node_type in PRESENT.get(level, ()):
        assert any(node_type in nodes for nodes in nodes_of_programs)
    if level == 3:
        assert all(ast.For in nodes for nodes in nodes_of_programs)


def test_a_program_that_comes_again_is_asked_with_another_input():
    one, other = generate(0, 0, 0, 0), generate(0, 0, 1, 0)
    again = list(as_asked([one, other, one, one]))
    assert [program.hash for program in again] == [one.hash, other.hash, one.hash, one.hash]
    assert again[:2] == [one, other]
    assert [program.inputs[0] for program in again if program.hash == one.hash] == list(one.inputs[:3])
    turned = again[3]
    assert (turned.outputs[0], turned.traces[0]) == (one.outputs[2], one.traces[2])
    assert sorted(zip(turned.inputs, turned.outputs, turned.traces, strict=True)) == sorted(
        zip(one.inputs, one.outputs, one.traces, strict=True)
    )
    assert len(list(as_asked([one] * 9))) == len(one.inputs)  # then none of its inputs is new


@pytest.fixture(scope="module")
def open_level_programs():
    """A hundred and fifty programs of each of the open levels."""
    return [generate(0, 4, index, level) for level in (0, 1, 2) for index in range(150)]


def test_trivially_answered_programs_are_few(open_level_programs):
    def trivial(program):
        pairs = zip(program.inputs, program.outputs, strict=True)
        return sum(value in CONSTANTS or value == text or text.startswith(value + ",") for text, value in pairs) > 2

    assert sum(map(trivial, open_level_programs)) / len(open_level_programs) < 0.08


def test_truth_values_flip(open_level_programs):
    found = [program for program in open_level_programs if program.outputs[0] in ("True", "False")]
    assert len(found) > 3
    for program in found:
        assert {"True", "False"} == set(program.outputs)


def test_names_are_drawn_without_regard_to_meaning(open_level_programs):
    names = collections.Counter(
        arg.arg for program in open_level_programs for arg in ast.parse(program.code).body[0].args.args
    )
    assert len(names) > 40
    assert max(names.values()) < 0.1 * names.total()
    assert any(len(name) > 1 for name in names)
    assert not set(names) & programs.RESERVED


def test_inverse_caps_programs_whose_inputs_are_guessed_from_the_output(open_level_programs):
    def guessable(program):
        hits = 0
        for text, value in zip(program.inputs, program.outputs, strict=True):
            if is_one(text):
                try:
                    hits += output(program.code, value) == value
                except (TypeError, IndexError, ValueError, AttributeError):
                    continue
        return hits > 2

    plain = sum(map(guessable, open_level_programs[:150]))
    capped = sum(guessable(generate(0, 4, index, 0, inverse=True)) for index in range(150))
    assert capped < plain
    assert capped <= 13  # 7.5 expected at most, σ = 2.7


def test_counts_add_up():
    counts = Counts()
    for index in range(10):
        generate(0, 9, index, 2, counts=counts)
    parts = counts.dead + counts.split + counts.failed + counts.constant + counts.trivial + counts.level + counts.kept
    assert counts.kept == 10
    assert counts.drawn == parts


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="split 'validation' is not one of train, dev, test"):
        generate(0, 0, 0, 0, "validation")


@pytest.mark.parametrize("level", (-1, 6))
def test_a_level_that_does_not_exist_is_refused(level):
    with pytest.raises(ValueError, match="not one of 0 to 5"):
        generate(0, 0, 0, level)
