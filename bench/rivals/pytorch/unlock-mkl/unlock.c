/* Preloaded, this answers the question by which MKL sends processors of other makers down a slow path.
   On Intel processors it changes nothing. Built by the bench: cc -shared -fPIC -O1 -o unlock.so unlock.c */
int mkl_serv_intel_cpu_true(void) { return 1; }
