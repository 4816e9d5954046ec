.PHONY: demo test bench check

demo:
	sh demo.sh

test:
	sh test.sh

# Prints the benchmark tables. make bench ONLY=opening prints one table.
bench:
	sh scripts/bench.sh $(ONLY)

# Runs the checks of continuous integration.
check:
	bash .ci/run
