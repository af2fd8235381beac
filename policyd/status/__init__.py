"""From findings and acknowledgements to status conditions and Events; never a judgement of its own."""
