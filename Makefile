# Beidou: what a developer or newcomer types.  `make run` needs Python 3.11+ and an ssh client only.
PYTHON := .venv/bin/python
.PHONY: help run demo demo-down check test format messages lab-up lab-down bench screenshots runtime dev

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

runtime:
	@bin/venv runtime

dev:
	@bin/venv dev

run: runtime ## start the portal at http://127.0.0.1:8000/
	@exec $(PYTHON) manage.py serve

demo: dev ## bring up the lab and scale up a real cluster through the portal (as root)
	@exec $(PYTHON) -m lab demo-up

demo-down: dev ## remove what the demo made
	@exec $(PYTHON) -m lab demo-down

lab-up: dev ## start a lab with a real cluster and two spare machines (as root)
	@exec $(PYTHON) -m lab up

lab-down: dev ## stop it
	@exec $(PYTHON) -m lab down

check: dev ## all static checks
	@exec bin/check

test: dev ## all tests, on SQLite and PostgreSQL and the real lab (as root)
	@exec bin/test

format: dev ## format the code
	@$(PYTHON) -m ruff check --fix --quiet . ; $(PYTHON) -m ruff format .

messages: dev ## collect new texts for translation and compile the translations
	@bin/messages

bench: dev ## the measures, one line each (as root)
	@exec $(PYTHON) -m bench

screenshots: dev ## the pictures of README and docs, taken from a running portal (after make demo)
	@exec $(PYTHON) docs/screenshots.py
