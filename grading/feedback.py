"""What a student gets back: FOLDER/STUDENT/STEM.md, in the language of the notebook that was handed in.

It tells the points of each task and, for each case that failed, the idea that it tests, one fixed sentence for the way in
which it failed, and a hint. Nothing else of a hidden case is in it: no input, no expected value, no exception. Nothing of the
notebook is in it either, no text and no output: it would be read where a teacher is logged in. It is Markdown, never HTML; a
student's name and a teacher's comment are escaped.
"""

import html
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grading.by_hand import visible
from grading.cases import CaseFile
from grading.gradebook import points_by_task

FILE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:]{1,200}")

# Why a case gave no points: cases.CATEGORIES.
CATEGORY = {
    "value": {"en": "A value is wrong.", "zh": "有数值不对。"},
    "shape": {"en": "The shape or the length of the result is wrong.", "zh": "结果的形状或长度不对。"},
    "kind": {"en": "The result is of another kind than the statement asks for.", "zh": "结果的类型与题目要求的不符。"},
    "nonfinite": {"en": "The result holds NaN or infinity where it must not.", "zh": "结果中出现了不该有的 NaN 或无穷大。"},
    "raised": {"en": "The call stopped with an error that it must not raise.", "zh": "调用时抛出了不该有的异常。"},
    "accepted": {
        "en": "An input that the statement wants refused was accepted.",
        "zh": "题目要求拒绝的输入，你的代码却接受了。",
    },
    "time": {"en": "The call took too long and was stopped.", "zh": "调用超时，已被中止。"},
    "memory": {"en": "The call needed more memory than is allowed.", "zh": "调用占用的内存超出了上限。"},
    "died": {"en": "The process ended in the middle of the call.", "zh": "调用途中进程意外终止。"},
    "protocol": {"en": "What came back could not be read as a result.", "zh": "返回的内容无法作为结果读取。"},
    "undefined": {
        "en": "The function that this case calls does not exist after your answers ran.",
        "zh": "运行完你的答案后，本项要调用的函数并不存在。",
    },
}
# How far the answer cell itself came; "ok" says nothing.
ANSWER = {
    "missing": {
        "en": "The answer cell is not in your notebook. Take a fresh copy of the exercise and paste your answer into its cell.",
        "zh": "你的笔记本里找不到这个答案单元格。请取一份新的练习，把答案贴到对应的单元格中。",
    },
    "doubled": {
        "en": "The answer cell stands in your notebook more than once, so nobody can say which one counts. Keep one of them.",
        "zh": "这个答案单元格在你的笔记本里出现了不止一次，无法确定以哪一个为准。请只保留一个。",
    },
    "untouched": {"en": "The answer is still as it was handed out.", "zh": "答案还是发下来时的样子，尚未填写。"},
    "too-long": {
        "en": "The answer is longer than the grader accepts. Shorten it.",
        "zh": "答案过长，超出了评分程序接受的上限。请缩短。",
    },
    "raised": {
        "en": "The cell stops with an error when it runs on its own. It may lean on a cell that is not an answer: "
        "restart the kernel and run all cells from the top.",
        "zh": "这个单元格单独运行时会出错，可能用到了其他非答案单元格里的内容。请重启内核，从头运行全部单元格。",
    },
    "time": {
        "en": "The cell ran too long and was stopped. It should only define functions.",
        "zh": "这个单元格运行超时，已被中止。其中应当只定义函数。",
    },
    "memory": {"en": "The cell needed more memory than is allowed.", "zh": "这个单元格占用的内存超出了上限。"},
    "died": {"en": "The process ended while the cell ran.", "zh": "这个单元格运行途中进程意外终止。"},
}
# Why nothing could be graded.
PROBLEM = {
    "missing": {
        "en": "No notebook was found, so nothing was graded. Hand it in under the name that the exercise has.",
        "zh": "没有找到你的笔记本，因此未作评分。请按练习原来的文件名提交。",
    },
    "not-a-file": {
        "en": "What stands in the place of the notebook is not a file. Hand in the notebook itself.",
        "zh": "笔记本所在的位置上不是普通文件。请提交笔记本文件本身。",
    },
    "link": {
        "en": "The notebook is a link to another file, and links are not followed. Hand in the file itself.",
        "zh": "提交的笔记本只是指向别处的链接，评分程序不会打开链接。请提交文件本身。",
    },
    "too-large": {
        "en": "The notebook is too large. Clear all outputs, save, and hand it in again.",
        "zh": "笔记本文件过大。请清除所有输出，保存后重新提交。",
    },
    "unreadable": {
        "en": "The notebook could not be read from the disk. Hand it in again.",
        "zh": "无法从磁盘读取这份笔记本。请重新提交。",
    },
    "not-json": {
        "en": "The file is damaged: it is no JSON. Open it in Jupyter, save it, and hand it in again.",
        "zh": "文件已损坏，不是有效的 JSON。请在 Jupyter 中打开并保存，然后重新提交。",
    },
    "not-a-notebook": {
        "en": "The file is no Jupyter notebook. Hand in the notebook of the exercise.",
        "zh": "这个文件不是 Jupyter 笔记本。请提交本练习的笔记本。",
    },
    "bad-name": {
        "en": "The name of the folder or the file cannot be used. Hand in under the name that your teacher gave you.",
        "zh": "文件夹或文件的名称无法使用。请按老师指定的名称提交。",
    },
    "crashed": {
        "en": "The grader itself failed on this notebook, so nothing was graded. Tell your teacher; no points are lost by it.",
        "zh": "评分程序处理这份笔记本时自身出错，因此未作评分。请告知老师，不会因此扣分。",
    },
}
SAY = {
    "en": {
        "feedback": "Feedback",
        "student": "Student: ",
        "total": "{total} of {top} points",
        "awaiting": "{points} more points are marked by hand and not in this sum yet.",
        "awaiting_cell": "awaits a mark",
        "task": "Task",
        "points": "Points",
        "worth": "**Lost {points}.** ",
        "gap": " ",
        "hint": "Hint: ",
        "one_case": "One of the hidden cases.",
        "comma": ", ",
        "uses": "This task calls your answer to {names}, which is not right yet either. Mend that first.",
        "waits": "Your text awaits a mark by hand.",
        "stale": "Your text has changed since it was marked. It awaits a new mark by hand.",
        "by_hand": "Marked by hand: {points} of {top} points.",
        "next": "**Next:** ",
        "mend": "begin with {name}: run its check in the notebook, try other shapes and extreme inputs, "
        "and hand in again if you may.",
        "wait": "nothing is left to mend in your code; wait for the marks by hand.",
        "read": "your code is right; read the comments on your texts.",
        "done": "all points reached. Compare your answers with the solutions once they are out.",
    },
    "zh": {
        "feedback": "反馈",
        "student": "学生：",
        "total": "得分 {total}，满分 {top}",
        "awaiting": "另有 {points} 分由人工评分，尚未计入。",
        "awaiting_cell": "待评分",
        "task": "任务",
        "points": "得分",
        "worth": "**失 {points} 分**：",
        "gap": "",
        "hint": "提示：",
        "one_case": "一项隐藏测试。",
        "comma": "、",
        "uses": "这项任务会调用你在 {names} 中的答案，而那里也还有错。请先改好它。",
        "waits": "你的文字答案正等待人工评分。",
        "stale": "评分之后你又改过文字，正等待重新人工评分。",
        "by_hand": "人工评分：{points} 分，满分 {top} 分。",
        "next": "**下一步**：",
        "mend": "先改 {name}：在笔记本里运行它的检查，再换些形状和极端输入试一试；若允许，改好后重新提交。",
        "wait": "代码部分已无需修改，等待人工评分即可。",
        "read": "代码全部正确，请看看老师对文字答案的评语。",
        "done": "已得满分。答案公布后，不妨与自己的解法对照一下。",
    },
}


class FeedbackError(Exception):
    """Why a feedback file was not written, and the cure, in one sentence."""


def feedback_for(result: dict, tasks: Sequence[Any], case_file: CaseFile, marks: dict[str, dict | None]) -> str:
    """The feedback as Markdown. tasks: `notebook.tasks_of`; marks: "marks" of `Gradebook.latest`, {} if there are none.

    A submission that could not be read has no language: its feedback is in both.
    """
    if result["language"] in SAY and not result["problem"]:
        return _in_language(result["language"], result, tasks, case_file, marks)
    return "\n---\n\n".join(_in_language(language, result, tasks, case_file, marks) for language in SAY)


def _in_language(language: str, result: dict, tasks: Sequence[Any], case_file: CaseFile, marks: dict) -> str:
    say = SAY[language]
    lines = [f"# {say['feedback']} · {escaped(result['stem'])}", "", f"{say['student']}{escaped(result['student'])}", ""]
    if result["problem"]:
        lines += [PROBLEM.get(result["problem"], PROBLEM["crashed"])[language], ""]
        return "\n".join(lines)
    points = points_by_task(result, marks)
    top = sum(task.points for task in tasks)
    total = sum(value for value in points.values() if value is not None)
    lines += ["**" + say["total"].format(total=_number(total), top=_number(top)) + "**", ""]
    late = sum(task.points for task in tasks if task.id in points and points[task.id] is None)
    if late:
        lines += [say["awaiting"].format(points=_number(late)), ""]
    lines += [f"| {say['task']} | {say['points']} |", "|---|---|"]
    for task in tasks:
        value = points.get(task.id, 0)
        shown = say["awaiting_cell"] if value is None else _number(value)
        lines.append(f"| {_title(task, language, cell=True)} (`{task.id}`) | {shown} / {_number(task.points)} |")
    lines.append("")
    for task in tasks:
        lines += (_code if task.kind == "code" else _prose)(task, language, result, case_file, marks)
    return "\n".join([*lines, say["next"] + _next(language, tasks, points), ""])


def _code(task: Any, language: str, result: dict, case_file: CaseFile, marks: dict) -> list[str]:
    """The section of a task in code; nothing if it has all points."""
    say = SAY[language]
    lost = [case for case in result["cases"] if case["task"] == task.id and case["earned"] < case["points"]]
    state = result["answers"].get(task.id, "missing")
    if not lost:
        return []
    lines = [f"## {_title(task, language)} (`{task.id}`)", ""]
    if state != "ok":
        lines += [ANSWER.get(state, ANSWER["died"])[language], ""]
    known = {case.name: case for case in case_file.of_task(task.id)}
    stopped = state != "ok" and {case["verdict"] for case in lost} <= {"undefined", state}  # one sentence says it all
    for case in lost:
        written = known.get(case["name"])
        words = [] if stopped else [CATEGORY.get(case["verdict"], CATEGORY["protocol"])[language]]
        words += [say["hint"] + written.hint[language]] if written and not stopped else []
        idea = written.idea[language] if written else say["one_case"]
        worth = say["worth"].format(points=_number(case["points"] - case["earned"]))
        lines.append(say["gap"].join([f"- {worth}{idea}", *words]))
    lines += [""] if lost else []
    used = {name for case in lost if case["name"] in known for name in known[case["name"]].uses}
    faulty = [name for name in used if _is_faulty(name, result)]
    if faulty:
        listed = say["comma"].join(f"`{name}`" for name in sorted(faulty))
        lines += [say["uses"].format(names=listed), ""]
    return lines


def _is_faulty(task: str, result: dict) -> bool:
    """Did another answer of this name lose points?"""
    return any(case["task"] == task and case["earned"] < case["points"] for case in result["cases"])


def _prose(task: Any, language: str, result: dict, case_file: CaseFile, marks: dict) -> list[str]:
    """The section of a task in prose: its mark and the teacher's comment, or that it waits, or that there is no text."""
    say, mark = SAY[language], marks.get(task.id)
    lines = [f"## {_title(task, language)} (`{task.id}`)", ""]
    if mark and not mark["stale"]:
        lines += [say["by_hand"].format(points=_number(mark["points"]), top=_number(task.points)), ""]
        if mark["comment"].strip():
            lines += [f"> {escaped(line)}" for line in visible(mark["comment"]).strip().split("\n")] + [""]
        return lines
    if points_by_task(result, marks).get(task.id, 0) is None:
        return [*lines, say["stale" if mark else "waits"], ""]
    state = result["answers"].get(task.id, "missing")
    return [*lines, ANSWER.get(state, ANSWER["untouched"])[language], ""]


def _next(language: str, tasks: Sequence[Any], points: dict[str, float | None]) -> str:
    """What to do now, in one sentence."""
    say = SAY[language]
    for task in tasks:
        if task.kind == "code" and points.get(task.id, 0) < task.points:
            return say["mend"].format(name=f"`{task.id}`")
    if any(value is None for value in points.values()):
        return say["wait"]
    return say["done"] if all(points.get(task.id, 0) >= task.points for task in tasks) else say["read"]


def _title(task: Any, language: str, cell: bool = False) -> str:
    """The heading of a task without its points, which stand in the table; in a table a bar would end the cell."""
    title = re.sub(r"\s*[(（][^()（）]*(points?|分)[^()（）]*[)）]\s*$", "", task.title[language])
    return title.replace("|", "\\|") if cell else title


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no control characters, no markup, no HTML, no block that begins."""
    plain = html.escape(visible(text).replace("\n", " ").strip(), quote=False)
    plain = re.sub(r"([\\`*_\[\]!|~$#])", r"\\\1", plain)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", lambda found: found[1] + "\\" if found[1].isdigit() else "\\" + found[1], plain)


def write(folder: Path, result: dict, tasks: Sequence[Any], case_file: CaseFile, marks: dict[str, dict | None]) -> Path:
    """Write FOLDER/STUDENT/STEM.md, whole or not at all, and return its path. FeedbackError says what stands in the way."""
    student, stem = result["student"], result["stem"]
    for name in (student, stem):
        if not FILE_NAME.fullmatch(name) or name.strip(". ") != name:
            raise FeedbackError(f"{name!r} cannot be the name of a file; rename the student's folder.")
    home = Path(folder) / student
    path = home / f"{stem}.md"
    try:
        home.mkdir(parents=True, exist_ok=True)
        for place, is_right in ((home, home.is_dir()), (path, path.is_file() or not path.exists())):
            if place.is_symlink() or not is_right:
                raise FeedbackError(
                    f"{place} is a link, or of the wrong kind; remove it, feedback is written to real files only."
                )
        for leftover in home.glob(f".{stem}.*.tmp"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        _replace(path, feedback_for(result, tasks, case_file, marks).encode("utf-8"))
    except OSError as error:
        raise FeedbackError(f"{path} was not written ({error.strerror}); make room, or choose another folder.") from error
    return path


def _replace(path: Path, content: bytes) -> None:
    """Put the content in the place of the file in one step, so that nobody ever reads half of it."""
    new = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp")
    try:
        with open(new, "xb") as file:  # x: never through a link, never over a file
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
