# What users try first: the talk's programs, and the code and links of every page.

if(MANYHANDS_EXAMPLES)
  foreach(program amdahl deadlock pool progress race shared_array threads_and_processes)
    add_test(NAME "talk: ${program}" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/talk_test.py
      $<TARGET_FILE_DIR:talk_${program}> ${program})
  endforeach()
endif()

file(GLOB_RECURSE pages RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
file(GLOB top_pages RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/*.md)
if(NOT MANYHANDS_SANITIZE)  # the pages' programs crash, run out of memory, use oneTBB; the unit tests are for sanitizers
  set(flags "${CMAKE_CXX_FLAGS} -std=c++20 -O0 -pthread -isystem ${PROJECT_SOURCE_DIR}")
  set(link "${CMAKE_EXE_LINKER_FLAGS} -rdynamic $<TARGET_FILE:manyhands> $<TARGET_FILE:TBB::tbb> $<TARGET_FILE:fmt::fmt>")
  string(APPEND link " $<TARGET_FILE:spdlog::spdlog> $<TARGET_FILE:Boost::context> -lhwloc -ldw -ldl")
  set(code --compiler ${CMAKE_CXX_COMPILER} "--flags=${flags}" "--link=${link}")
endif()
foreach(page IN LISTS top_pages pages)
  add_test(NAME "docs: ${page}" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/check_docs.py ${page} ${code})
  set_tests_properties("docs: ${page}" PROPERTIES LABELS docs TIMEOUT 300)
endforeach()
