"""How events travel from who publishes them to who must know."""
