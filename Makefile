.PHONY: demo test bench check

demo:
	sh demo.sh

test:
	sh test.sh

# Timings, not tests: prints tables. make bench ONLY=opening runs one of them.
bench:
	sh scripts/bench.sh $(ONLY)

# What continuous integration runs
check:
	bash .ci/run
