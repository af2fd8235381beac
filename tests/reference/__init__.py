"""A naive evaluator of docs/reference/semantics: obvious, slow, and sharing no code with the product.

Ids in brackets ([A5], [D2]) are the numbered sentences of the semantics that a piece of code spells out.
"""
