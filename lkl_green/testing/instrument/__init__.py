"""Scheduling points inside ordinary code: before each access to what threads can share.

The functions of chosen modules are recompiled from their source with an announcement at each access, and their code
objects are exchanged for as long as a campaign lasts. The parts, from the bottom up:

    site          an access in the source, and the marks that stand for it in compiled code
    places        what is accessed: an attribute, an item, a container, a variable
    announce      the functions that rewritten code calls before an access
    names         which variables need points
    rewrite       the syntax tree of a module, rewritten
    compiled      a module's code objects, plain and rewritten, in pairs
    exchange      the functions of a module: found, exchanged, put back
    where         which modules
    importhook    modules that are imported meanwhile
    instrumented  all of these for one campaign, with a summary for its report
"""
