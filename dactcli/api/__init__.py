"""One function per command: a typed request in, a typed result out, nothing printed.

The command line parses its options into a request, calls the function once and renders the result.
"""
