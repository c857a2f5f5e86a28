/*
 * A libnvidia-ml.so.1 that answers from a file, for hosts without a GPU: what NVIDIA's pynvml.py and Ray ask of NVML.
 *
 * The file is $FAKE_NVML, or /etc/fake_nvml. One "key value" per line; a key of one GPU is "gpu.N.name", of all "gpu.*.name",
 * and that of one GPU wins. Instead of a value: "error N" returns that nvmlReturn_t, "hang" never returns, "crash" ends the
 * process with SIGSEGV. What the file does not name is not supported (3), as on a GPU that lacks it.
 *
 * Compiled with -DOLD it lacks what drivers before 535 lack. Structures and numbers are those of NVIDIA's nvml.h.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LINE = 4096 };
typedef unsigned int u32;
typedef unsigned long long u64;

/* What stands in the file for a key; 0 when it stands there. */
static int find(const char *key, char *value)
{
    const char *path = getenv("FAKE_NVML");
    FILE *file = fopen(path ? path : "/etc/fake_nvml", "r");
    char line[LINE];
    int found = 0;
    size_t length = strlen(key);
    if (!file)
        return NOT_SUPPORTED;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, key, length) && line[length] == ' ') {
            strcpy(value, line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found ? SUCCESS : NOT_SUPPORTED;
}

static int answered(int result, const char *value)
{
    if (result)
        return result;
    if (!strcmp(value, "hang"))
        for (;;)
            pause();
    if (!strcmp(value, "crash"))
        raise(SIGSEGV);
    return strncmp(value, "error ", 6) ? SUCCESS : atoi(value + 6);
}

static int of_system(const char *key, char *value)
{
    return answered(find(key, value), value);
}

static int of_gpu(void *gpu, const char *name, char *value)
{
    char key[256];
    int result;
    snprintf(key, sizeof key, "gpu.%d.%s", (int)(size_t)gpu - 1, name);
    result = find(key, value);
    if (result) {
        snprintf(key, sizeof key, "gpu.*.%s", name);
        result = find(key, value);
    }
    return answered(result, value);
}

static int number(void *gpu, const char *name, u64 *out)
{
    char value[LINE];
    int result = of_gpu(gpu, name, value);
    if (!result)
        *out = strtoull(value, NULL, 0);
    return result;
}

static int number32(void *gpu, const char *name, u32 *out)
{
    u64 wide;
    int result = number(gpu, name, &wide);
    if (!result)
        *out = (u32)wide;
    return result;
}

/* Two numbers of one line, such as a mode and the pending one. */
static int pair(void *gpu, const char *name, u32 *first, u32 *second)
{
    char value[LINE];
    int result = of_gpu(gpu, name, value);
    if (!result && sscanf(value, "%u %u", first, second) != 2)
        *second = *first;
    return result;
}

static int copied(int result, const char *value, char *out, u32 size)
{
    if (result)
        return result;
    if (strlen(value) + 1 > size)
        return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

/* --- the system ------------------------------------------------------------------------------------------------ */

int nvmlInitWithFlags(u32 flags)
{
    char value[LINE];
    int result = of_system("init", value);
    (void)flags;
    return result == NOT_SUPPORTED ? SUCCESS : result;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int result)
{
    static char text[64];
    snprintf(text, sizeof text, "error %d", result);
    return text;
}

int nvmlSystemGetNVMLVersion(char *out, u32 size)
{
    char value[LINE];
    int result = of_system("nvml", value);
    return copied(result, value, out, size);
}
int nvmlSystemGetDriverVersion(char *out, u32 size)
{
    char value[LINE];
    int result = of_system("driver", value);
    return copied(result, value, out, size);
}
int nvmlSystemGetCudaDriverVersion(int *out)
{
    char value[LINE];
    int result = of_system("cuda", value);
    if (!result)
        *out = atoi(value);
    return result;
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlDeviceGetCount_v2(u32 *out)
{
    char value[LINE];
    int result = of_system("gpus", value);
    if (!result)
        *out = (u32)strtoul(value, NULL, 0);
    return result;
}
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **out)
{
    char value[LINE];
    int result;
    *out = (void *)(size_t)(index + 1);
    result = of_gpu(*out, "handle", value);
    return result == NOT_SUPPORTED ? SUCCESS : result;
}

/* --- a GPU ----------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetName(void *gpu, char *out, u32 size)
{
    char value[LINE];
    int result = of_gpu(gpu, "name", value);
    return copied(result, value, out, size);
}
int nvmlDeviceGetUUID(void *gpu, char *out, u32 size)
{
    char value[LINE], made[64];
    int result = of_gpu(gpu, "uuid", value);
    if (result != NOT_SUPPORTED)
        return copied(result, value, out, size);
    snprintf(made, sizeof made, "GPU-00000000-0000-0000-0000-%012d", (int)(size_t)gpu - 1);
    return copied(SUCCESS, made, out, size);
}
int nvmlDeviceGetIndex(void *gpu, u32 *out) { *out = (u32)(size_t)gpu - 1; return SUCCESS; }
int nvmlDeviceGetMinorNumber(void *gpu, u32 *out) { *out = (u32)(size_t)gpu - 1; return SUCCESS; }

struct pci { char legacy[16]; u32 domain, bus, device, device_id, subsystem_id; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(void *gpu, struct pci *out)
{
    char value[LINE];
    int result = of_gpu(gpu, "pci", value);
    memset(out, 0, sizeof *out);
    if (result)
        return result;
    if (sscanf(value, "%x:%x:%x", &out->domain, &out->bus, &out->device) != 3)
        return INVALID_ARGUMENT;
    snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.0", out->domain, out->bus, out->device);
    return SUCCESS;
}

struct memory { u64 total, free, used; };
int nvmlDeviceGetMemoryInfo(void *gpu, struct memory *out)
{
    int result = number(gpu, "memory_total", &out->total);
    if (!result)
        result = number(gpu, "memory_used", &out->used);
    out->free = out->total - out->used;
    return result;
}

int nvmlDeviceGetEccMode(void *gpu, u32 *now, u32 *pending) { return pair(gpu, "ecc", now, pending); }
int nvmlDeviceGetTotalEccErrors(void *gpu, u32 type, u32 counter, u64 *out)
{
    (void)type;
    return number(gpu, counter ? "ecc_uncorrectable_lifetime" : "ecc_uncorrectable", out);
}
int nvmlDeviceGetRetiredPagesPendingStatus(void *gpu, u32 *out) { return number32(gpu, "pages_pending", out); }
int nvmlDeviceGetRemappedRows(void *gpu, u32 *correctable, u32 *uncorrectable, u32 *pending, u32 *failure)
{
    int result = number32(gpu, "rows_remapped", uncorrectable);
    *correctable = 0;
    if (!result)
        result = number32(gpu, "remap_pending", pending);
    return result ? result : number32(gpu, "remap_failed", failure);
}

/* The value has one digit per link. */
int nvmlDeviceGetNvLinkState(void *gpu, u32 link, u32 *out)
{
    char value[LINE];
    int result = of_gpu(gpu, "nvlinks", value);
    if (result)
        return result;
    if (link >= strlen(value))
        return INVALID_ARGUMENT;
    *out = (u32)(value[link] - '0');
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(void *gpu, u32 kind, u32 *out) { return number32(gpu, kind == 1 ? "clock_sm" : "clock_memory", out); }
int nvmlDeviceGetMaxClockInfo(void *gpu, u32 kind, u32 *out)
{
    return number32(gpu, kind == 1 ? "clock_sm_max" : "clock_memory_max", out);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *gpu, u64 *out) { return number(gpu, "slowdowns", out); }
int nvmlDeviceGetPowerUsage(void *gpu, u32 *out) { return number32(gpu, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, u32 *out) { return number32(gpu, "power_limit", out); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *gpu, u32 *out) { return number32(gpu, "power_default", out); }
int nvmlDeviceGetTemperature(void *gpu, u32 sensor, u32 *out) { (void)sensor; return number32(gpu, "temperature", out); }
int nvmlDeviceGetPersistenceMode(void *gpu, u32 *out) { return number32(gpu, "persistence", out); }

/* The value is "PID BYTES", or "0" for nobody. NVML asks twice: how many, then which. */
struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };
static int process_of(void *gpu, const char *name, u32 *count, struct process *out)
{
    char value[LINE];
    u64 memory = 0;
    u32 pid = 0, room = *count;
    int result = of_gpu(gpu, name, value);
    if (result == NOT_SUPPORTED)
        value[0] = result = 0;
    if (result)
        return result;
    sscanf(value, "%u %llu", &pid, &memory);
    *count = pid ? 1 : 0;
    if (!pid)
        return SUCCESS;
    if (!out || room < 1)
        return INSUFFICIENT_SIZE;
    memset(out, 0, sizeof *out);
    out->pid = pid;
    out->memory = memory;
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *gpu, u32 *count, struct process *out)
{
    return process_of(gpu, "process", count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *gpu, u32 *count, struct process *out)
{
    return process_of(gpu, "graphics_process", count, out);
}

int nvmlDeviceGetMigMode(void *gpu, u32 *now, u32 *pending) { return pair(gpu, "mig", now, pending); }

struct field { u32 id, scope; long long timestamp, latency; u32 type, result; union { u32 u32; u64 u64; double d; } value; };
int nvmlDeviceGetFieldValues(void *gpu, int count, struct field *values)
{
    for (int at = 0; at < count; at++) {
        /* 230: NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
        values[at].value.u64 = 0;
        values[at].result = values[at].id == 230 ? (u32)number32(gpu, "recovery_action", &values[at].value.u32) : NOT_SUPPORTED;
    }
    return SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetCurrentClocksEventReasons(void *gpu, u64 *out) { return number(gpu, "slowdowns", out); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, u32 *count, struct process *out)
{
    return process_of(gpu, "process", count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, u32 *count, struct process *out)
{
    return process_of(gpu, "graphics_process", count, out);
}

/* The value is "STATE STATUS". */
struct fabric { u32 version; unsigned char cluster[16]; u32 status, clique; unsigned char state; u32 health; };
int nvmlDeviceGetGpuFabricInfoV(void *gpu, struct fabric *out)
{
    u32 state = 0, status = 0;
    int result = pair(gpu, "fabric", &state, &status);
    out->state = (unsigned char)state;
    out->status = status;
    return result;
}
#endif
