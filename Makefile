# make lab | test | check | build | bench | site | assets | doctor      (each makes .venv first, once)
#   PYTHON=python3.12                                  another Python (3.11 or newer)
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu   on Linux without a GPU: 200 MB of torch instead of several GB
#   LANG_UI=zh_CN                                      JupyterLab and the first page in Chinese
PYTHON ?= python3
TORCH_INDEX ?=
READY = .venv/.installed
CLASSROOM = .venv/.classroom
RUN = .venv/bin/python

lab: $(READY)
	$(RUN) tools/lab.py

test: $(READY) $(CLASSROOM)
	$(RUN) tools/run_tests.py

check: $(READY)
	$(RUN) tools/run_tests.py check

build: $(READY)
	$(RUN) tools/build.py

bench: $(READY) $(CLASSROOM)
	$(RUN) -m benchmarks.$(FIGURE)

site: $(READY) build
	$(RUN) site/make.py

assets: $(READY)
	$(RUN) -m course_lib fetch

doctor: $(READY)
	$(RUN) -m course_lib doctor

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "This course needs Python 3.11 or newer, and $(PYTHON) is %d.%d: try  make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock -e '.[test,zh,site]'
	touch $(READY)

# nbgrader and Dask: for the proof that they work with the grader, and for teachers who use them; a learner needs neither.
$(CLASSROOM): $(READY)
	$(RUN) -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock -e '.[classroom]'
	touch $(CLASSROOM)

.PHONY: lab test check build bench site assets doctor
