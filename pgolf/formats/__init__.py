"""What stages hand each other. Stage packages never import one another; they meet here."""
