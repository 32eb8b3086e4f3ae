"""What happens to rows once they are made."""
