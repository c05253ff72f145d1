"""Helpers: functions that stand before f and are called by it, recursive ones that always end and plain ones."""

from collections.abc import Callable

from bitzero.generator.execute import FAILURES
from bitzero.generator.expressions import draw_expression, draw_leaf, uses_name
from bitzero.generator.loops import with_return
from bitzero.generator.scope import DeadDraw, Expression, Scope, Variable
from bitzero.generator.statements import Helper, Statement, draw_update, mark_used, statement_of
from bitzero.generator.templates import ATOM, BUILTINS, ValueType

# Of a helper, on any input of the pool: the next statement may run a range over it inside a built-in, where nothing
# counts. (Runs bound variables further; a lower bound here would make other test programs.)
MAX_RESULT = 10**7


def draw_helper(scope: Scope) -> tuple[Helper, ValueType, ValueType, Callable[..., object]]:
    """A helper: its source, the types of its parameter and result, and the function itself. Raises `DeadDraw`."""
    rng = scope.rng
    name = scope.new_name()
    param_type: ValueType = rng.choice(("int", "list", "str"))
    own = Scope(rng, scope.vocabulary, weights=scope.weights)
    own.outer, own.input_of, own.max_args = None, None, 0
    own.names_given = scope.root().names_given
    param = draw_parameter(own, param_type)
    scope.root().names_given = own.names_given
    result_type: ValueType = param_type if param_type != "list" else rng.choice(("int", "list"))
    if rng.random() < 0.6:
        bodies = recursive_body(own, name, param, result_type)
    else:
        expression = draw_expression(own, result_type, rng.choice((1, 2)))
        if not uses_name(expression.text, param.name):
            raise DeadDraw
        bodies = [f"    return {expression.text}"], [f"    return {expression.traced}"]
    scope.root().names_given = own.names_given
    head = f"def {name}({param.name}):"
    text, traced = ("\n".join([head, *body]) for body in bodies)
    space: dict[str, Callable[..., object]] = {}
    exec(compile(text, "<helper>", "exec"), {"__builtins__": BUILTINS}, space)
    function = space[name]
    function.__globals__[name] = function
    return Helper(text, traced), param_type, result_type, function


def draw_parameter(own: Scope, value_type: ValueType) -> Variable:
    """The single parameter of a helper."""
    own.max_args = 1
    var = own.new_argument(value_type)
    own.max_args = 0
    return var


def recursive_body(own: Scope, name: str, param: Variable, result_type: ValueType) -> tuple[list[str], list[str]]:
    """Lines of a function that always ends, plain and traced.

    A base case, else a part of the argument joined with the result on a smaller argument.
    """
    rng, p = own.rng, param.name
    if param.type == "int":
        limit = rng.randint(1, 3)
        test, part = f"{p} < {limit}", rng.choice((p, f"{p} % {rng.randint(2, 5)}", str(rng.randint(1, 3))))
        smaller = rng.choice((f"{p} // {rng.randint(2, 4)}", f"{p} - {rng.randint(3, 9)}"))
        base = rng.choice((p, "0", "1"))
        joined = rng.choice(("{a} + {b}", "{b} - {a}", "{b} * 2 + {a}"))
    elif param.type == "str":
        test, part, base = f"len({p}) < {rng.randint(1, 2)}", rng.choice((f"{p}[0]", f"{p}[-1]", f"{p}[::2]")), p
        smaller, joined = rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]")), rng.choice(("{a} + {b}", "{b} + {a}"))
    else:
        test, smaller = f"not {p}", rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]"))
        part, base = (rng.choice((f"{p}[0]", f"{p}[-1]")), "0") if result_type == "int" else (f"[{p}[-1]]", "[]")
        joined = rng.choice(
            ("{a} + {b}", "{b} + {a}") if result_type == "list" else ("{a} + {b}", "{a} - {b}", "max({a}, {b})")
        )
    heads = [f"    if {test}:", f"        return {base}"]
    traced_part = part if part.isalnum() or part == p else f"E({part})"
    plain = joined.format(a=part, b=f"{name}({smaller})")
    traced = joined.format(a=traced_part, b=f"E({name}(E({smaller})))")
    return [*heads, f"    return {plain}"], [*heads, f"    return {traced}"]


def with_helper(scope: Scope) -> tuple[list[Helper], list[Statement]]:
    """L5: a helper, and a body that calls it. Raises `DeadDraw`."""
    rng = scope.rng
    helper, param_type, result_type, function = draw_helper(scope)
    name = helper.text[4 : helper.text.index("(")]
    given = draw_leaf(scope, param_type, False) if rng.random() < 0.7 else draw_expression(scope, param_type, 1)
    try:
        vals = [function(value) for value in given.vals]
    except FAILURES:
        raise DeadDraw from None
    if all(value == vals[0] for value in vals) or vals == given.vals:
        raise DeadDraw
    if any(type(value) is int and abs(value) > MAX_RESULT for value in vals):
        raise DeadDraw
    passed = f"E({given.traced})" if given.ops else given.text
    text, traced = f"{name}({given.text})", f"{name}({passed})"
    call = Expression(text, traced, ATOM, vals, given.ops + 1, 3, productions=given.productions)
    shape = rng.random()
    if shape < 0.25:
        return [helper], [statement_of(f"return {call.text}", call, traced=f"return {call.traced}")]
    var = Variable(scope.new_name(), result_type, vals, unused=True)
    scope.variables.append(var)
    body = [statement_of(f"{var.name} = {call.text}", call, var.name)]
    mark_used(scope, call.text, var.name)
    if shape < 0.6:
        body.append(draw_update(scope))
    return [helper], with_return(scope, body, [helper])
