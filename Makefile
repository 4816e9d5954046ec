.PHONY: demo test bench campaign package check

demo:
	sh demo.sh

test:
	sh test.sh

# Prints the benchmark tables. make bench ONLY=opening prints one table.
bench:
	sh scripts/bench.sh $(ONLY)

# Disturbs the program: kills, full disks, mutated files and others; takes an hour. The
# variables ONLY, KIND, CASE and SEED repeat a failure; KILLS, INPUTS and MINUTES set the
# size.
campaign:
	sh scripts/campaign.sh $(MAKEOVERRIDES)

# Builds the wheel and the source distribution, and checks them in fresh environments.
package:
	sh scripts/package.sh

# Runs the checks of continuous integration.
check:
	bash .ci/run
