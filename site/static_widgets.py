"""A widget needs a kernel; a page has none. This draws, from the state that a run left, what the widget showed then.

Boxes, sliders, choices, labels and images are enough: the interactive figures of the course are made of them. A progress bar is
left out, it says nothing once the work is done. Every value is escaped, images are PNG or SVG bytes.
"""

import base64
import html

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def still(outputs: list, widgets: dict) -> list:
    """The outputs with each widget view replaced by a picture of its state; progress bars go."""
    models = widgets.get(STATE, {}).get("state", {})
    kept = []
    for output in outputs:
        view = output.get("data", {}).get(VIEW)
        if view is None:
            kept.append(output)
        elif drawn := draw(view["model_id"], models):
            output.data = {"text/html": f'<div class="still-widget">{drawn}</div>'}
            kept.append(output)
    return kept


def draw(model_id: str, models: dict) -> str:
    """HTML of one widget and its children; '' for what cannot be drawn or is a progress bar."""
    model_id = model_id.removeprefix("IPY_MODEL_")
    name, state = models.get(model_id, {}).get("model_name", ""), dict(models.get(model_id, {}).get("state", {}))
    children = state.get("children", [])
    if children:
        if any("Progress" in models.get(c.removeprefix("IPY_MODEL_"), {}).get("model_name", "") for c in children):
            return ""
        direction = "row" if name in ("HBoxModel", "GridBoxModel") else "column"
        inside = "".join(draw(child, models) for child in children)
        return (
            f'<div style="display:flex;flex-wrap:wrap;gap:.4em 1.5em;flex-direction:{direction}">{inside}</div>'
            if inside
            else ""
        )
    if name == "ImageModel":
        return _image(models[model_id])
    if name in ("HTMLModel", "HTMLMathModel"):
        return f"<div>{state.get('value', '')}</div>"
    if name == "OutputModel":
        return "".join(_output(output) for output in state.get("outputs", []))
    return _control(name, state)


def _image(model: dict) -> str:
    """An image whose bytes lie in the buffers of the saved state."""
    data = next((b["data"] for b in model.get("buffers", []) if b.get("path") == ["value"]), "")
    kind = {"svg": "svg+xml"}.get(model["state"].get("format", "png"), model["state"].get("format", "png"))
    base64.b64decode(data, validate=True)  # nothing but base64 gets into the page
    return f'<img alt="interactive figure, as the run left it" src="data:image/{kind};base64,{data}">' if data else ""


def _output(output: dict) -> str:
    """Text, and pictures as PNG, of an Output widget."""
    if png := output.get("data", {}).get("image/png"):
        return f'<img alt="figure" src="data:image/png;base64,{html.escape(png.strip())}">'
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return f"<pre>{html.escape(''.join(text))}</pre>" if text else ""


def _control(name: str, state: dict) -> str:
    """A slider, a choice, a button or a label, that cannot be moved."""
    label = html.escape(str(state.get("description", "")))
    options = state.get("_options_labels")
    if options and isinstance(state.get("index"), int):
        value = options[state["index"]]
    elif name == "CheckboxModel":
        value = "☑" if state.get("value") else "☐"
    else:
        value = state.get("value", "")
    value = html.escape(f"{value:g}" if isinstance(value, float) else str(value))
    if "min" in state and "max" in state and "Slider" in name:
        at = html.escape(str(state.get("value")), quote=True)
        bounds = f'min="{float(state["min"]):g}" max="{float(state["max"]):g}" step="any" value="{at}"'
        return f'<label>{label} <input type="range" disabled {bounds}> {value}</label>'
    if name == "ButtonModel":
        return f"<button disabled>{label}</button>"
    if not (label or value) or name in ("LayoutModel", ""):
        return ""
    return f"<label>{label} <b>{value}</b></label>" if label else f"<span>{value}</span>"
