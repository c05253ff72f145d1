"""Fuel: a tick at every loop body, function, lambda and comprehension item, written into the program's tree.

Counting work instead of time makes a ``timeout`` the same on every machine and under any load. Work inside C (``sum``
of an endless iterator, a regular expression, a huge power) has no ticks; the processor-time limit ends that.
"""

import ast

TICK = "tick "  # the trailing space makes it unwritable in source, so a program can neither call nor rebind it


def instrument(tree: ast.Module) -> ast.Module:
    """``tree`` itself, with ticks inserted. The global ``TICK`` must be a function that returns True."""
    _Ticker().visit(tree)
    return tree


def _call(at: ast.AST) -> ast.Call:
    call = ast.Call(func=ast.Name(id=TICK, ctx=ast.Load()), args=[], keywords=[])
    for node in (call, call.func):
        ast.copy_location(node, at)
    return call


def _statement(at: ast.AST) -> ast.Expr:
    return ast.copy_location(ast.Expr(value=_call(at)), at)


class _Ticker(ast.NodeTransformer):
    def _body(self, node: ast.For | ast.While | ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, _statement(node.body[0]))
        return node

    visit_For = visit_While = visit_FunctionDef = _body

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.generic_visit(node)
        node.body = ast.copy_location(ast.BoolOp(op=ast.And(), values=[_call(node.body), node.body]), node.body)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs.insert(0, _call(node.iter))
        return node
