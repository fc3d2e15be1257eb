/* The library that mpi_import loads. */
double area(double radius) { return 3.141592653589793 * radius * radius; }
