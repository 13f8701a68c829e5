"""One file a headline figure: `make bench FIGURE=NAME` runs benchmarks/NAME.py, which writes benchmarks/results/NAME.json."""
