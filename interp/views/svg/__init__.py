"""Drawings as inline SVG text: no dependency, no script, restyled by the page's classes for dark screens and print."""
