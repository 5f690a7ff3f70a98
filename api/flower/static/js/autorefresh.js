// Flower sets this in an inline script, which our content security policy forbids.
window.autorefresh = 1;
