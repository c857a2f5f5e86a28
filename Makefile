# Each line calls what stands elsewhere. docs/lab.md tells what the lab is.
.PHONY: demo test test-unit test-full lint lock verify bench lab-up lab-down
INVENTORY ?= inventories/lab.py
RUN := .venv/bin/python -m
# One more process than cores, as some tests wait for processes of their own.
UNIT := pytest -n $$(($$(nproc) + 1)) --dist worksteal -m

demo: ; @tests/lab/setup.sh lab && $(RUN) tests.lab.demo
test: ; @tests/lab/setup.sh lab && $(RUN) $(UNIT) "not lab and not long" && $(RUN) pytest -m "lab and not long"
test-unit: ; @tests/lab/setup.sh tools && $(RUN) $(UNIT) "not lab and not long and not install"
test-full: ; @tests/lab/setup.sh lab && $(RUN) $(UNIT) "not lab" && $(RUN) pytest -m lab
lint: ; @tests/lab/setup.sh tools && .ci/lint
lock: ; @tests/lab/setup.sh tools && $(RUN) roles.serving_runtime.make_locks
verify: ; @tests/hosts/verify.sh $(INVENTORY)
bench: ; @tests/lab/setup.sh lab && $(RUN) tests.bench
lab-up: ; @tests/lab/setup.sh lab && tests/lab/lab.sh up
lab-down: ; @tests/lab/lab.sh down
