# Each line calls what stands elsewhere. docs/lab.md tells what the lab is.
.PHONY: demo test test-unit test-full lint lock audit plan verify bench lab-up lab-down
INVENTORY ?= inventories/lab.py
RUN := .venv/bin/python -m
# The environment that is there, as on an operator's desk.
OPERATOR := $(firstword $(wildcard $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV)/bin/python) .venv/bin/python) python3)
# One more process than cores, as some tests wait for processes of their own.
UNIT := pytest -n $$(($$(nproc) + 1)) --dist worksteal -m

demo: ; @tests/lab/setup.sh lab && $(RUN) tests.lab.demo
test: ; @tests/lab/setup.sh lab && $(RUN) $(UNIT) "not lab and not long" && $(RUN) pytest -m "lab and not long"
test-unit: ; @tests/lab/setup.sh tools && $(RUN) $(UNIT) "not lab and not long and not install"
test-full: ; @tests/lab/setup.sh lab && $(RUN) $(UNIT) "not lab" && $(RUN) pytest -m lab
lint: ; @tests/lab/setup.sh tools && .ci/lint
lock: ; @tests/lab/setup.sh tools && $(RUN) roles.serving_runtime.make_locks
audit: ; @tests/lab/setup.sh tools && $(RUN) roles.audit $(ARGS)
# make itself exits with 2 for every failure. With --question it exits with 1 when a line is left to run, as it is when
# the plan is impossible; lines with + run all the same.
ifeq ($(MAKECMDGOALS),plan)
MAKEFLAGS += --question
endif
plan:
	$(eval STATUS := $(shell $(OPERATOR) -m deploy.inputs.make_plan $(INVENTORY) $(ARGS) >&2; echo $$?))
	$(if $(filter-out 0 2,$(STATUS)),@true)
	+@exit $(STATUS)
verify: ; @tests/hosts/verify.sh $(INVENTORY)
bench: ; @tests/lab/setup.sh lab && $(RUN) tests.bench
lab-up: ; @tests/lab/setup.sh lab && tests/lab/lab.sh up
lab-down: ; @tests/lab/lab.sh down
