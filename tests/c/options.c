/* Options: defaults, by name, from the environment, from a file, and which one wins. */
#include "check.h"

static void has(const isis_options_t *options, const char *line)
{
    char text[ISIS_OPTIONS_ROOM + 1];
    memcpy(text, options->settings, ISIS_OPTIONS_ROOM);
    text[options->settings_len] = 0;
    if (strstr(text, line) == NULL)
        failed(__FILE__, __LINE__, "no \"%s\" in \"%s\"", line, text);
    checks_done++;
}

int main(void)
{
    isis_options_t options, copy;
    char path[4000], line[100];
    FILE *file;

    begin("options", 20);
    OK(isis_options_init(&options));
    CHECK_EQ(options.settings_len, 0);
    OK(isis_options_set(&options, "hold_bytes", "1000"));
    has(&options, "hold_bytes=1000\n");
    OK(isis_options_set(&options, "hang", "kill"));
    OK(isis_options_set(&options, "allow_kill", "on"));
    OK(isis_options_set(&options, "max_pause_ns", "2s"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "hang", "maybe"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "allow_kill", "perhaps"));
    EXPECT(ISIS_EOPTION, isis_options_set(&options, "max_pause_ns", "1000min"));
    OK(isis_options_set(&options, "linger_ns", "20ms"));
    OK(isis_options_set(&options, "window", "2MiB"));
    has(&options, "linger_ns=20ms\n");
    has(&options, "window=2MiB\n");
    copy = options;
    OK(isis_options_set(&copy, "linger_ns", "30ms"));
    has(&copy, "window=2MiB\nlinger_ns=30ms\n");
    has(&options, "linger_ns=20ms\n");

    setenv("ISIS_PORT", "7001", 1);
    setenv("ISIS_HOLD_BYTES", "77", 1);
    setenv("ISIS_NO_OPTION_OF_OURS", "1", 1);
    OK(isis_options_from_env(&options));
    has(&options, "hold_bytes=77\n");
    has(&options, "port=7001\n");
    setenv("ISIS_PORT", "many", 1);
    copy = options;
    EXPECT(ISIS_EOPTION, isis_options_from_env(&options));
    CHECK(strstr(isis_last_error(), "port") != NULL);
    CHECK(memcmp(&copy, &options, sizeof copy) == 0); /* a failure changes nothing */
    unsetenv("ISIS_PORT");

    snprintf(path, sizeof path, "%s/isis.toml", getenv("ISIS_RUNTIME_DIR"));
    CHECK((file = fopen(path, "w")) != NULL);
    fputs("mode = \"inline\"\nlinger_ns = \"1s\"\nhold_bytes = \"1MiB\"\nhang = \"wait\"\nallow_kill = false\n", file);
    fclose(file);
    OK(isis_options_from_file(&options, path));
    snprintf(line, sizeof line, "config=");
    has(&options, line);
    CHECK((file = fopen(path, "w")) != NULL);
    fputs("mode = \"inline\"\nlingre_ns = 5\n", file);
    fclose(file);
    EXPECT(ISIS_EFILE, isis_options_from_file(&options, path));
    CHECK(strstr(isis_last_error(), "lingre_ns") != NULL);
    return done();
}
