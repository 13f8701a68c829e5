"""Sphinx settings of the reading version, one run a language (`make.py` sets COURSE_LANG and writes the pages into `_work`)."""

import os
import re

from sphinx.search import languages
from sphinx.search.zh import SearchChinese

LANG = os.environ["COURSE_LANG"]
OTHER = {"en": ("zh", "中文"), "zh": ("en", "English")}[LANG]

project = {"en": "Model Optimization from the Formulas Up", "zh": "从公式出发的模型优化"}[LANG]
html_title = project
language = {"en": "en", "zh": "zh_CN"}[LANG]
extensions = ["myst_nb"]
exclude_patterns = ["_static"]
templates_path = ["_templates"]

nb_execution_mode = "off"  # make.py has run them: once for both languages
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
nb_ipywidgets_js = {}  # nothing from another server; make.py has put the state of each widget in its place
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_update_mathjax = False
suppress_warnings = ["mystnb.unknown_mime_type", "myst.xref_missing"]

html_theme = "sphinx_book_theme"
html_theme_options = {
    "article_header_end": ["language-switch.html", "article-header-buttons.html"],
    "show_navbar_depth": 1,
    "use_download_button": False,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "footer_content_items": [],
    "toc_title": {"en": "On this page", "zh": "本页内容"}[LANG],
    "search_bar_text": {"en": "Search the course", "zh": "搜索课程"}[LANG],
}
html_context = {"other_lang": OTHER[0], "other_name": OTHER[1]}
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_copy_source = False
html_show_sourcelink = False

# MathJax comes with jupyter-server-mathjax and is copied by make.py: the same fonts and the same TeX as in JupyterLab.
mathjax_path = "mathjax/MathJax.js"
mathjax2_config = {
    "config": ["TeX-AMS-MML_HTMLorMML-full.js"],
    "tex2jax": {"inlineMath": [["\\(", "\\)"]], "displayMath": [["\\[", "\\]"]], "ignoreClass": ".*", "processClass": "math"},
    "HTML-CSS": {"availableFonts": [], "imageFont": None, "preferredFont": None, "webFont": "STIX-Web", "scale": 92},
    "showMathMenu": False,
    "messageStyle": "none",
}


class ChineseWithoutDictionary(SearchChinese):
    """Every run of characters and every pair in it is a word: the page's script finds a longer query inside the runs."""

    language_name = "English"  # of the stemmer that comes along; "Chinese" makes the page look for one that does not exist

    def split(self, text):
        runs = re.findall(r"[\u4e00-\u9fff]{2,}", text)
        pairs = [run[i : i + 2] for run in runs for i in range(len(run) - 1)]
        return runs + pairs + super().split(text)


languages["zh"] = ChineseWithoutDictionary
