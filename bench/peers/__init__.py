"""Who is measured: Postroom and what people use instead, each behind the same small seam."""
