"""What every benchmark uses: shapes, timing of contenders in turn, counted arithmetic, the machine, tables and files."""
