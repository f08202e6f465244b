# `make` says what there is. Each target makes the environment first, where it is not there.
SHELL := bash
ready := . scripts/environment.sh && set_up test && bin=$$venv/bin

.PHONY: help run test test-mpi lint types bench docs

help:      ## this list
	@sed -n 's/^\([a-z-]*\): *## /\1\t/p' Makefile | expand -t 12

run:       ## the main job: digits, 64 trials, 8 ranks (flags: make run FLAGS='--max-trials 20')
	scripts/run.sh $(FLAGS)

test:      ## the tests but for the slow suites (all: scripts/test.sh --all)
	scripts/test.sh $(FLAGS)

test-mpi:  ## the tests that start mpirun
	scripts/test.sh -m mpi $(FLAGS)

lint:      ## ruff, and shellcheck and hadolint over the scripts and the Dockerfile
	@$(ready) && "$$bin/ruff" check . && "$$bin/ruff" format --check . && "$$bin/shellcheck" -x -P scripts scripts/*.sh scripts/mpibo-mpirun slurm/*.sh mpibo/*.sh aws-parallelcluster/*.sh .ci/run && "$$bin/hadolint" Dockerfile

types:     ## mypy
	@$(ready) && "$$bin/mypy"

bench:     ## start-up, utilisation, round trips, memory, import time
	@$(ready) && find_mpirun && "$$bin/python" benchmarks/overhead.py $(FLAGS)

docs:      ## pages of the public interface, in site/
	@$(ready) && "$$bin/pdoc" --docformat google --output-directory site mpibo
