"""Functions before f: recursive ones that always end, and plain ones, each with a call in f."""

from collections.abc import Callable

from bitzero.generator.execute import FAILURES
from bitzero.generator.expressions import expression, leaf, uses
from bitzero.generator.loops import finish
from bitzero.generator.scope import Dead, Expr, Scope, Var
from bitzero.generator.statements import Helper, Stmt, settle, stmt, update
from bitzero.generator.templates import ATOM, BUILTINS


def helper(scope: Scope) -> tuple[Helper, str, str, Callable[..., object]]:
    """A function before f: its source, the types it takes and gives, and the function itself."""
    rng = scope.rng
    name, kind = scope.name(), rng.choice(("int", "list", "str"))
    own = Scope(rng, scope.tier)
    own.outer, own.rows, own.max_args = None, None, 0
    own.count = scope.root().count
    param = own_param(own, kind)
    scope.root().count = own.count
    gives = kind if kind != "list" else rng.choice(("int", "list"))
    if rng.random() < 0.6:
        lines = recursive(own, name, param, gives)
    else:
        made = expression(own, gives, rng.choice((1, 2)))
        if not uses(made.text, param.name):
            raise Dead
        lines = [f"    return {made.text}"], [f"    return {made.traced}"]
    scope.root().count = own.count
    head = f"def {name}({param.name}):"
    text, traced = ("\n".join([head, *part]) for part in lines)
    space: dict[str, Callable[..., object]] = {}
    exec(compile(text, "<helper>", "exec"), {"__builtins__": BUILTINS}, space)
    made_function = space[name]
    made_function.__globals__[name] = made_function
    return Helper(text, traced), kind, gives, made_function


def own_param(own: Scope, kind: str) -> Var:
    """The single parameter of a helper."""
    own.max_args = 1
    var = own.new_arg(kind)
    own.max_args = 0
    return var


def recursive(own: Scope, name: str, param: Var, gives: str) -> tuple[list[str], list[str]]:
    """A base case, and one call on a smaller argument combined with the present one; always ends."""
    rng, p = own.rng, param.name
    if param.kind == "int":
        limit = rng.randint(1, 3)
        test, part = f"{p} < {limit}", rng.choice((p, f"{p} % {rng.randint(2, 5)}", str(rng.randint(1, 3))))
        smaller = rng.choice((f"{p} // {rng.randint(2, 4)}", f"{p} - {rng.randint(3, 9)}"))
        base = rng.choice((p, "0", "1"))
        join = rng.choice(("{a} + {b}", "{b} - {a}", "{b} * 2 + {a}"))
    elif param.kind == "str":
        test, part, base = f"len({p}) < {rng.randint(1, 2)}", rng.choice((f"{p}[0]", f"{p}[-1]", f"{p}[::2]")), p
        smaller, join = rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]")), rng.choice(("{a} + {b}", "{b} + {a}"))
    else:
        test, smaller = f"not {p}", rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]"))
        part, base = (rng.choice((f"{p}[0]", f"{p}[-1]")), "0") if gives == "int" else (f"[{p}[-1]]", "[]")
        join = rng.choice(
            ("{a} + {b}", "{b} + {a}") if gives == "list" else ("{a} + {b}", "{a} - {b}", "max({a}, {b})")
        )
    heads = [f"    if {test}:", f"        return {base}"]
    simple = part if part.isalnum() or part == p else f"E({part})"
    plain = join.format(a=part, b=f"{name}({smaller})")
    told = join.format(a=simple, b=f"E({name}(E({smaller})))")
    return [*heads, f"    return {plain}"], [*heads, f"    return {told}"]


def helped(scope: Scope) -> tuple[list[Helper], list[Stmt]]:
    """L5: a helper, recursive or not, called by f."""
    rng = scope.rng
    made, takes, gives, function = helper(scope)
    name = made.text[4 : made.text.index("(")]
    given = leaf(scope, takes, False) if rng.random() < 0.7 else expression(scope, takes, 1)
    try:
        vals = [function(value) for value in given.vals]
    except FAILURES:
        raise Dead from None
    if all(value == vals[0] for value in vals) or vals == given.vals:
        raise Dead
    passed = f"E({given.traced})" if given.ops else given.text
    call = Expr(f"{name}({given.text})", f"{name}({passed})", ATOM, vals, given.ops + 1, 3)
    shape = rng.random()
    if shape < 0.25:
        return [made], [stmt(f"return {call.text}", call, traced=f"return {call.traced}")]
    var = Var(scope.name(), gives, vals, pending=True)
    scope.vars.append(var)
    body = [stmt(f"{var.name} = {call.text}", call, var.name)]
    settle(scope, call.text, var.name)
    if shape < 0.6:
        body.append(update(scope))
    return [made], finish(scope, body, [made])
