/*
 * The snapshot: a process image of the interpreter with skerry loaded, as a program.
 *
 * Half of the time of a short command used to be the start of the interpreter, the other half the loading of modules.
 * Both come out the same each time, so they are done once, at installation: this program, linked with the static
 * library of CPython, starts the interpreter as the launcher would, loads the modules, and writes its own data down;
 * tools/make_snapshot puts that into a copy of the program. The copy begins where the original ended: no path is
 * searched, no module is read, and of its memory a command touches, and so pays for, a tenth.
 *
 *   build    snapshot PYTHON SCRIPT OUT < code     runs the code, takes its `entry`, writes the data to OUT
 *   after    started like the interpreter: PYTHON -I -S -B -X utf8 SCRIPT words...; calls `entry`
 *
 * A snapshot serves one interpreter and one installation. Is PYTHON not the very file it was made from (an upgrade), or
 * SCRIPT another, it executes PYTHON with the arguments it was given: slower, and right.
 *
 * What must not be in the data: anything that the C library or the kernel knows and a new process does not. So memory
 * comes from one array here; the loaded code has no shared library, thread, open file or environment (make_snapshot
 * sees to that); and `wake` makes anew what is this process's own. The hash seed is the installation's, not the
 * process's; docs/decisions/0010-snapshot.md argues that, and the fixed addresses.
 */

#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1 /* for _PyRuntime: who is the main thread, and where its state is found */
#include <Python.h>
#include "internal/pycore_runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if PY_VERSION_HEX >> 16 != 0x030b
#error "what wake() renews is known for CPython 3.11"
#endif

enum {
	HEAP_BYTES = 64 << 20, /* addresses, not memory: what is not used is not in the file */
	ALIGNMENT = 16,
	EIGHTH = 8, /* sizes of blocks to each power of two */
	CLASSES = 512,
	ARENA_ALIGNMENT = 16 << 10, /* the size of a pool of CPython's allocator */
	LARGEST_SMALL = 512,	    /* larger blocks are none of that allocator's */
	OPTIONS = 5,		    /* of the launcher: -I -S -B -X utf8 */
	SCRIPT = OPTIONS + 1,
};

/* What a woken process has to know: in .data, because that is what is written down. */
static struct {
	volatile int woken;
	size_t used;
	struct stat python_file;
	char *python, *script;
	PyObject *entry, *environment, *set_signal, *ignore;
	PyThreadState *thread;
} kept __attribute__((section(".data")));

/* After everything else in .bss, so that the data ends with what of it is used. */
static char heap[HEAP_BYTES] __attribute__((aligned(4096)));

static void *given_back[CLASSES]; /* lists of blocks, while the snapshot is made */

extern char __data_start[]; /* of the linker */
extern char **environ;

/* Memory. While the snapshot is made all of it is taken from the heap; afterwards it is the C library's again. */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static int in_heap(const void *memory)
{
	return (const char *)memory >= heap && (const char *)memory < heap + HEAP_BYTES;
}

/* The word before a block is its size. */
static size_t *size_of(void *memory)
{
	return (size_t *)memory - 1;
}

static void *take(size_t alignment, size_t size)
{
	size_t at = (kept.used + ALIGNMENT + alignment - 1) & ~(alignment - 1);

	if (size > HEAP_BYTES || at + size > HEAP_BYTES)
		return NULL;
	kept.used = at + size;
	*size_of(heap + at) = size;
	return heap + at;
}

/*
 * Blocks given back are used again, so that what is kept lies close together. There are eight sizes to each power of
 * two, and `class` is the number of the smallest that is large enough.
 */
static unsigned size_class(size_t *size)
{
	unsigned power = 0;
	size_t step;

	*size = *size < ALIGNMENT ? ALIGNMENT : *size;
	while (*size >> power > 2 * EIGHTH)
		power++;
	step = (size_t)1 << power;
	*size = (*size + step - 1) & ~(step - 1);
	return power * 2 * EIGHTH + (unsigned)(*size >> power);
}

static void *reuse(size_t size)
{
	void **block;
	unsigned class = size_class(&size);

	if (class >= CLASSES)
		return take(ALIGNMENT, size);
	block = given_back[class];
	if (!block)
		return take(ALIGNMENT, size);
	given_back[class] = *block;
	return block;
}

static void give_back(void *memory)
{
	size_t size = *size_of(memory);
	unsigned class = size_class(&size);

	if (class >= CLASSES || size != *size_of(memory))
		return;
	*(void **)memory = given_back[class];
	given_back[class] = memory;
}

void *malloc(size_t size)
{
	return kept.woken ? __libc_malloc(size) : reuse(size);
}

void *calloc(size_t count, size_t size)
{
	size_t total;
	void *memory;

	if (kept.woken)
		return __libc_calloc(count, size);
	if (__builtin_mul_overflow(count, size, &total))
		return NULL;
	memory = reuse(total);
	return memory ? memset(memory, 0, total) : NULL;
}

void *realloc(void *old, size_t size)
{
	void *fresh;

	if (!old)
		return malloc(size);
	if (!in_heap(old))
		return __libc_realloc(old, size);
	fresh = malloc(size);
	if (fresh) {
		memcpy(fresh, old, *size_of(old) < size ? *size_of(old) : size);
		free(old);
	}
	return fresh;
}

void *memalign(size_t alignment, size_t size)
{
	if (kept.woken)
		return __libc_memalign(alignment, size);
	return take(alignment < ALIGNMENT ? ALIGNMENT : alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

void free(void *memory)
{
	if (!memory)
		return;
	if (!in_heap(memory))
		__libc_free(memory);
	else if (!kept.woken)
		give_back(memory);
}

static void *new_arena(void *context, size_t size)
{
	void *memory;

	(void)context;
	if (!kept.woken)
		return take(ARENA_ALIGNMENT, size);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

/*
 * Leave no room in the memory that is kept: a command would find it all over the place, and pay for each page that it
 * puts something into. A class of blocks is full when the allocator turns to an arena that was not there before.
 */
static int fill_up(void)
{
	const char *before = heap + kept.used;

	for (size_t size = ALIGNMENT; size <= LARGEST_SMALL; size += ALIGNMENT) {
		const char *block;

		do {
			block = PyObject_Malloc(size);
			if (!block)
				return -1;
		} while (block < before);
	}
	return 0;
}

static void free_arena(void *context, void *memory, size_t size)
{
	(void)context;
	if (!in_heap(memory))
		munmap(memory, size);
}

/* Making it. */

static void check(PyStatus status)
{
	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
}

/* The interpreter as `python3 -I -S -B -X utf8` would be. */
static void start_interpreter(const char *python)
{
	PyObjectArenaAllocator arenas = {NULL, new_arena, free_arena};
	PyPreConfig before;
	PyConfig config;

	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1;
	check(Py_PreInitialize(&before));
	PyObject_SetArenaAllocator(&arenas);
	PyConfig_InitIsolatedConfig(&config);
	config.site_import = 0;
	config.write_bytecode = 0;
	config.install_signal_handlers = 1; /* SIGPIPE is an error, not the end */
	check(PyConfig_SetBytesString(&config, &config.executable, python));
	check(PyConfig_SetBytesString(&config, &config.program_name, python));
	check(Py_InitializeFromConfig(&config));
	PyConfig_Clear(&config);
}

static PyObject *attribute(const char *module, const char *name)
{
	PyObject *found = PyImport_ImportModule(module);

	return found ? PyObject_GetAttrString(found, name) : NULL;
}

static int write_all(const char *path, const char *from, const char *end)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t size;

	/* First where it belongs. */
	if (fd < 0 || write(fd, &from, sizeof(from)) != sizeof(from))
		return -1;
	for (; from < end; from += size) {
		size = write(fd, from, (size_t)(end - from));
		if (size <= 0)
			return -1;
	}
	return close(fd);
}

static int build(char **argv)
{
	start_interpreter(argv[1]);
	if (PyRun_SimpleFile(stdin, "snapshot"))
		return 1;
	kept.entry = attribute("__main__", "entry");
	kept.environment = attribute("posix", "environ");
	kept.set_signal = attribute("_signal", "signal");
	kept.ignore = attribute("_signal", "SIG_IGN");
	kept.thread = PyThreadState_Get();
	kept.python = strdup(argv[1]);
	kept.script = strdup(argv[2]);
	if (!kept.entry || !kept.environment || !kept.set_signal || !kept.ignore ||
	    stat(argv[1], &kept.python_file))
		return 1;
	if (fill_up())
		return 1;
	kept.woken = 1;
	if (write_all(argv[3], __data_start, heap + kept.used))
		return 1;
	_exit(0); /* not by way of an interpreter that believes to be woken */
}

/* Being it. */

/* Is this the interpreter, and the installation, that the data is of? */
static int is_ours(int argc, char **argv)
{
	struct stat now;
	const struct stat *then = &kept.python_file;

	return argc > SCRIPT && !strcmp(argv[0], kept.python) &&
	       !strcmp(argv[SCRIPT], kept.script) && stat(kept.python, &now) == 0 &&
	       now.st_ino == then->st_ino && now.st_dev == then->st_dev &&
	       now.st_size == then->st_size && now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == then->st_mtim.tv_nsec;
}

/* The C library has new keys for the thread's own data, and the thread is another. */
static int wake_thread(void)
{
	Py_tss_t *key = &_PyRuntime.gilstate.autoTSSkey;

	key->_is_initialized = 0;
	if (PyThread_tss_create(key) || PyThread_tss_set(key, kept.thread))
		return -1;
	kept.thread->thread_id = PyThread_get_thread_ident();
	kept.thread->native_thread_id = PyThread_get_thread_native_id();
	_PyRuntime.main_thread = kept.thread->thread_id;
	return 0;
}

/* The interpreter ignores two signals; and it has to know which ones our caller ignores. */
static int wake_signals(void)
{
	struct sigaction now;

	PyOS_setsig(SIGPIPE, SIG_IGN);
	PyOS_setsig(SIGXFSZ, SIG_IGN);
	for (int number = 1; number < _NSIG; number++) {
		if (number == SIGPIPE || number == SIGXFSZ || sigaction(number, NULL, &now) ||
		    now.sa_handler != SIG_IGN)
			continue;
		if (!PyObject_CallFunction(kept.set_signal, "iO", number, kept.ignore))
			return -1;
	}
	return 0;
}

static int wake_environment(void)
{
	for (char **entry = environ; *entry; entry++) {
		char *equals = strchr(*entry, '=');
		PyObject *name, *value;

		if (!equals)
			continue;
		name = PyBytes_FromStringAndSize(*entry, equals - *entry);
		value = PyBytes_FromString(equals + 1);
		/* As the interpreter does it, the first of equal names counts. */
		if (!name || !value || !PyDict_SetDefault(kept.environment, name, value))
			return -1;
	}
	return 0;
}

static int wake_arguments(int count, char **words)
{
	PyObject *list = PyList_New(count);

	for (int i = 0; list && i < count; i++) {
		PyObject *word = PyUnicode_DecodeFSDefault(words[i]);

		if (!word)
			return -1;
		PyList_SET_ITEM(list, i, word);
	}
	return list ? PySys_SetObject("argv", list) : -1;
}

int main(int argc, char **argv)
{
	if (!kept.woken)
		return argc == 4 ? build(argv) : 2;
	if (!is_ours(argc, argv)) {
		execv(argv[0], argv);
		return 1;
	}
	if (wake_thread() || wake_signals() || wake_environment() ||
	    wake_arguments(argc - SCRIPT, argv + SCRIPT) || !PyObject_CallNoArgs(kept.entry))
		PyErr_Print();
	_exit(1); /* `entry` does not return */
}
