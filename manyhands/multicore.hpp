#pragma once
// The users' header for one machine: pools of threads and of processes.
