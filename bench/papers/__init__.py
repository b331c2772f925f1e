"""Papers that can be reproduced: one file each, found by the paper's arXiv id.

`arxiv_1805_09190.py` is `tiltyard reproduce 1805.09190`. It ends in a `create` that makes a `Paper`
(see `types`). Files that begin with an underscore are its parts.
"""
