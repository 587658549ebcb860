"""One file a page. Streamlit runs a page's file as `__main__`; importing it does nothing."""
