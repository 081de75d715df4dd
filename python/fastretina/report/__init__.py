"""What a registration looks like: ``overlay.png`` (panels) and ``report.html`` (self-contained)."""

from fastretina.report.html import html_report
from fastretina.report.panels import overlay_panels
from fastretina.report.scene import Scene, scene

__all__ = ["Scene", "html_report", "overlay_panels", "scene"]
