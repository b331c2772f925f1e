"""Analysis by synthesis, part by part (Schott et al. 2018, arXiv 1805.09190).

`network` is what is trained, `decoder` what inference uses of it; `bank` and `descent` are the two
stages of `inference`; `classifier` is what attacks meet, with `confidence` and `certificate`;
`public_algorithm` is the authors' inference to compare with; `convert` reads their weights.
`models.create("abs")` puts them together.
"""
